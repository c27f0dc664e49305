"""True architectures with seeded random weights: for whatever needs full size but not a picture.

Weights are normal with variance 1 / fan-in, so that activations keep their size through the layers: the
largest in the U-Net of Stable Diffusion 1.5 is about 20, far below FP16's 65504.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from tokenizers import pre_tokenizers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .checkpoint import Checkpoint
from .configs import Configs, default_request
from .specs import Component
from .tokenizer import text_settings

START, END = "<|startoftext|>", "<|endoftext|>"
# The networks' outputs would have a standard deviation of 0.6; noise and pictures have about 1.
LAST_LAYER_GAIN = 1.7


def open_sd15(source: str) -> Checkpoint:
    """Open random Stable Diffusion 1.5; weights are made when a component is loaded."""
    with torch.device("meta"):
        empty = {component: build() for component, build in BUILD.items()}
    configs = {component: _config_of(model) for component, model in empty.items()}
    scheduler = _config_of(_build_scheduler())
    text_encoder = configs["text_encoder"]
    tokenizer = byte_tokenizer(text_encoder["bos_token_id"], text_encoder["eos_token_id"])
    return Checkpoint(
        source=source,
        fingerprint=source,
        configs=Configs(
            text_encoder=text_encoder,
            unet=configs["unet"],
            vae=configs["vae"],
            scheduler=scheduler,
            text=text_settings(
                tokenizer, text_encoder["max_position_embeddings"], text_encoder["vocab_size"]
            ),
            defaults=default_request(configs["unet"], configs["vae"], scheduler, {}),
        ),
        tokenizer=tokenizer,
        parameters={
            component: sum(parameter.numel() for parameter in model.parameters())
            for component, model in empty.items()
        },
        load=load_random,
    )


def load_random(component: Component, seed: int = 0) -> nn.Module:
    """Make a component with the weights of `seed`, in float32, without ever holding it twice."""
    with torch.device("meta"):
        model = BUILD[component]()
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                gain = LAST_LAYER_GAIN if "conv_out" in name else 1.0
                parameter.normal_(0.0, gain / parameter[0].numel() ** 0.5, generator=generator)
            else:
                parameter.normal_(float(name.endswith("weight")), 0.02, generator=generator)
        for name, buffer in model.named_buffers():
            assert name.endswith("position_ids"), name
            buffer.copy_(torch.arange(buffer.shape[-1]))
    made: nn.Module = model.eval().requires_grad_(False)
    return made


def byte_tokenizer(bos_token_id: int, eos_token_id: int) -> CLIPTokenizer:
    """A CLIP tokenizer whose 512 tokens are the bytes, inside a word and at its end; window 77."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    vocabulary |= {START: bos_token_id, END: eos_token_id}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def _build_text_encoder() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=77,
            hidden_act="quick_gelu",
            projection_dim=768,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=49407,
        )
    )


def _build_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)


def _build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
    )


def _build_scheduler() -> PNDMScheduler:
    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        set_alpha_to_one=False,
    )


BUILD: dict[Component, Callable[[], Any]] = {
    "text_encoder": _build_text_encoder,
    "unet": _build_unet,
    "vae": _build_vae,
}


ARCHITECTURES: dict[str, Callable[[str], Checkpoint]] = {"sd15": open_sd15}


def _config_of(model: Any) -> dict[str, Any]:
    if isinstance(model, CLIPTextModel):
        fields: dict[str, Any] = model.config.to_dict()
    else:
        fields = json.loads(model.to_json_string())
    return fields
