"""Checkpoints in the original layout, made from modules: block by block, not name by name.

The walk is over the modules in the order in which they run, as the original code bases numbered them.
`test_original_files.py` holds what it writes to diffusers' reading of such files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

State = dict[str, Tensor]
# Where each family has its text encoders, and whether those are OpenCLIP's.
TEXT = {
    "sd1": {"text_encoder": ("cond_stage_model.transformer.", False)},
    "sd2": {"text_encoder": ("cond_stage_model.model.", True)},
    "sdxl": {
        "text_encoder": ("conditioner.embedders.0.transformer.", False),
        "text_encoder_2": ("conditioner.embedders.1.model.", True),
    },
    "sdxl-refiner": {"text_encoder_2": ("conditioner.embedders.0.model.", True)},
}


def state_of(family: str, components: dict[str, nn.Module]) -> State:
    """All tensors of a checkpoint under their original keys."""
    state = prefixed("model.diffusion_model.", unet_state(components["unet"]))
    state |= prefixed("first_stage_model.", vae_state(components["vae"]))
    for name, (prefix, open_clip) in TEXT[family].items():
        # Stable Diffusion 2 has the last layer of OpenCLIP too, which it does not use
        spare = {"spare_layer": True} if family == "sd2" else {}
        make = open_clip_state if open_clip else clip_state
        state |= prefixed(prefix, make(components[name], **spare))
    return state


def write(family: str, components: dict[str, nn.Module], path: Path, dtype: torch.dtype) -> Path:
    """Write a checkpoint, pickled if its name says so, with what a trainer leaves in such files."""
    state = {key: value.to(dtype).contiguous() for key, value in state_of(family, components).items()}
    state |= {"betas": torch.zeros(1000), "model_ema.decay": torch.tensor(0.9)}
    if path.suffix == ".safetensors":
        save_file({key: value.clone() for key, value in state.items()}, path)
    else:
        torch.save({"state_dict": state, "global_step": 840000}, path)
    return path


def load_components(family: str, folder: Path) -> dict[str, nn.Module]:
    """The modules of a folder in diffusers layout."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    classes: dict[str, Any] = {
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
    }
    return {name: classes[name].from_pretrained(folder / name) for name in (*TEXT[family], "unet", "vae")}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def unet_state(unet: Any) -> State:
    state: State = {}
    for at, module in (
        ("time_embed.0", unet.time_embedding.linear_1),
        ("time_embed.2", unet.time_embedding.linear_2),
        ("input_blocks.0.0", unet.conv_in),
        ("out.0", unet.conv_norm_out),
        ("out.2", unet.conv_out),
    ):
        _put(state, at, module)
    if hasattr(unet, "add_embedding"):
        _put(state, "label_emb.0.0", unet.add_embedding.linear_1)
        _put(state, "label_emb.0.2", unet.add_embedding.linear_2)
    if unet.mid_block is not None:
        resnets = unet.mid_block.resnets
        for number, resnet in zip((0, 2)[: len(resnets)], resnets, strict=True):
            _put_resnet(state, f"middle_block.{number}", resnet)
        for attention in unet.mid_block.attentions:
            _put(state, "middle_block.1", attention)
    row = 1
    for block in unet.down_blocks:
        for resnet, attention in _pairs(block):
            _put_resnet(state, f"input_blocks.{row}.0", resnet)
            _put(state, f"input_blocks.{row}.1", attention)
            row += 1
        for downsampler in block.downsamplers or []:
            _put(state, f"input_blocks.{row}.0.op", downsampler.conv)
            row += 1
    row = 0
    for block in unet.up_blocks:
        for resnet, attention in _pairs(block):
            _put_resnet(state, f"output_blocks.{row}.0", resnet)
            _put(state, f"output_blocks.{row}.1", attention)
            row += 1
        for upsampler in block.upsamplers or []:
            behind = 1 if attention is None else 2
            _put(state, f"output_blocks.{row - 1}.{behind}.conv", upsampler.conv)
    return state


def vae_state(vae: Any) -> State:
    state: State = {}
    _put(state, "quant_conv", vae.quant_conv)
    _put(state, "post_quant_conv", vae.post_quant_conv)
    for at, half in (("encoder", vae.encoder), ("decoder", vae.decoder)):
        _put(state, f"{at}.conv_in", half.conv_in)
        _put(state, f"{at}.norm_out", half.conv_norm_out)
        _put(state, f"{at}.conv_out", half.conv_out)
        for number, resnet in enumerate(half.mid_block.resnets, start=1):
            _put_vae_resnet(state, f"{at}.mid.block_{number}", resnet)
        attention = half.mid_block.attentions[0]
        _put(state, f"{at}.mid.attn_1.norm", attention.group_norm)
        for letter, linear in zip("qkv", (attention.to_q, attention.to_k, attention.to_v), strict=True):
            _put(state, f"{at}.mid.attn_1.{letter}", linear)
        _put(state, f"{at}.mid.attn_1.proj_out", attention.to_out[0])
        for key in [key for key in state if f"{at}.mid.attn_1" in key and state[key].ndim == 2]:
            state[key] = state[key][:, :, None, None]
    for number, block in enumerate(vae.encoder.down_blocks):
        for j, resnet in enumerate(block.resnets):
            _put_vae_resnet(state, f"encoder.down.{number}.block.{j}", resnet)
        for downsampler in block.downsamplers or []:
            _put(state, f"encoder.down.{number}.downsample.conv", downsampler.conv)
    for number, block in enumerate(reversed(vae.decoder.up_blocks)):
        for j, resnet in enumerate(block.resnets):
            _put_vae_resnet(state, f"decoder.up.{number}.block.{j}", resnet)
        for upsampler in block.upsamplers or []:
            _put(state, f"decoder.up.{number}.upsample.conv", upsampler.conv)
    return state


def clip_state(model: Any) -> State:
    state: State = {}
    _put(state, "text_model", getattr(model, "text_model", model))
    positions = len(state["text_model.embeddings.position_embedding.weight"])
    return {**state, "text_model.embeddings.position_ids": torch.arange(positions)[None]}


def open_clip_state(model: Any, *, spare_layer: bool = False) -> State:
    """spare_layer: with one layer more than the model has, as Stable Diffusion 2."""
    text = getattr(model, "text_model", model)
    state: State = {
        "positional_embedding": text.embeddings.position_embedding.weight.data,
        "logit_scale": torch.tensor(100.0).log(),
        "text_projection": model.text_projection.weight.data.T
        if hasattr(model, "text_projection")
        else torch.eye(text.embeddings.token_embedding.embedding_dim),
    }
    _put(state, "token_embedding", text.embeddings.token_embedding)
    _put(state, "ln_final", text.final_layer_norm)
    layers = [*text.encoder.layers, *([text.encoder.layers[-1]] if spare_layer else [])]
    for number, layer in enumerate(layers):
        at = f"transformer.resblocks.{number}"
        attention = layer.self_attn
        fused = (attention.q_proj, attention.k_proj, attention.v_proj)
        state[f"{at}.attn.in_proj_weight"] = torch.cat([linear.weight.data for linear in fused])
        state[f"{at}.attn.in_proj_bias"] = torch.cat([linear.bias.data for linear in fused])
        _put(state, f"{at}.attn.out_proj", attention.out_proj)
        _put(state, f"{at}.ln_1", layer.layer_norm1)
        _put(state, f"{at}.ln_2", layer.layer_norm2)
        _put(state, f"{at}.mlp.c_fc", layer.mlp.fc1)
        _put(state, f"{at}.mlp.c_proj", layer.mlp.fc2)
    return state


def _pairs(block: Any) -> list[tuple[Any, Any]]:
    attentions = getattr(block, "attentions", [None] * len(block.resnets))
    return list(zip(block.resnets, attentions, strict=True))


def _put(state: State, at: str, module: nn.Module | None) -> None:
    if module is not None:
        state |= {f"{at}.{name}": value.data for name, value in module.named_parameters()}


def _put_resnet(state: State, at: str, resnet: Any) -> None:
    _put(state, f"{at}.in_layers.0", resnet.norm1)
    _put(state, f"{at}.in_layers.2", resnet.conv1)
    _put(state, f"{at}.emb_layers.1", resnet.time_emb_proj)
    _put(state, f"{at}.out_layers.0", resnet.norm2)
    _put(state, f"{at}.out_layers.3", resnet.conv2)
    _put(state, f"{at}.skip_connection", resnet.conv_shortcut)


def _put_vae_resnet(state: State, at: str, resnet: Any) -> None:
    for name in ("norm1", "conv1", "norm2", "conv2"):
        _put(state, f"{at}.{name}", getattr(resnet, name))
    _put(state, f"{at}.nin_shortcut", resnet.conv_shortcut)
