"""Random checkpoints of other families, small enough to export in seconds, in diffusers layout."""

from __future__ import annotations

from pathlib import Path

import diffusers
import torch
from tokenizers import pre_tokenizers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
UNET = {
    "sample_size": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
XL_UNET = {
    **UNET,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2),
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
}


def write(family: str, folder: Path, **unet: object) -> Path:
    """Write a seeded random checkpoint of a family, one of FAMILIES. unet: options of its config."""
    torch.manual_seed(0)
    pipeline = FAMILIES[family](**unet)
    with torch.no_grad():  # else two prompts make the same picture to 59 dB
        for name, weight in pipeline.unet.named_parameters():
            if "attn2.to_out" in name:
                weight *= 80
    pipeline.save_pretrained(folder)
    return folder


def _sd1(**unet):
    scheduler = diffusers.PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False)
    return _sd(_text_encoder(32), {"cross_attention_dim": 32, "attention_head_dim": 4, **unet}, scheduler)


def _lcm():
    pipeline = _sd1(time_cond_proj_dim=16)
    pipeline.register_modules(
        scheduler=diffusers.LCMScheduler(**NOISE, set_alpha_to_one=True, clip_sample=False)
    )
    return pipeline


def _sd2():
    scheduler = diffusers.DDIMScheduler(
        **NOISE, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False
    )
    unet = {"cross_attention_dim": 32, "attention_head_dim": (2, 4), "use_linear_projection": True}
    return _sd(_text_encoder(32, hidden_act="gelu"), unet, scheduler)


def _sd(text_encoder, unet, scheduler):
    return diffusers.StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=text_encoder,
        tokenizer=_tokenizer(),
        unet=_spread(diffusers.UNet2DConditionModel(**{**UNET, **unet})),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl():
    unet = {"cross_attention_dim": 32 + 48, "projection_class_embeddings_input_dim": 24 + 6 * 8}
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(scaling_factor=0.13025),
        text_encoder=_text_encoder(32),
        text_encoder_2=_text_encoder(48, projection=24, hidden_act="gelu"),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(pad="!"),
        unet=_spread(diffusers.UNet2DConditionModel(**{**XL_UNET, **unet})),
        scheduler=diffusers.EulerDiscreteScheduler(**NOISE, timestep_spacing="leading"),
    )


def _refiner():
    unet = {"cross_attention_dim": 48, "projection_class_embeddings_input_dim": 24 + 5 * 8}
    return diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=_vae(scaling_factor=0.13025),
        text_encoder=None,
        text_encoder_2=_text_encoder(48, projection=24, hidden_act="gelu"),
        tokenizer=None,
        tokenizer_2=_tokenizer(pad="!"),
        unet=_spread(diffusers.UNet2DConditionModel(**{**XL_UNET, **unet})),
        scheduler=diffusers.EulerDiscreteScheduler(**NOISE, timestep_spacing="leading"),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
    )


FAMILIES = {
    "sd1": _sd1,
    "sd1-inpainting": lambda: _sd1(in_channels=9),
    "sd1-edit": lambda: _sd1(in_channels=8),
    "lcm": _lcm,
    "sd2": _sd2,
    "sdxl": _sdxl,
    "sdxl-refiner": _refiner,
}


def _text_encoder(width: int, *, projection: int | None = None, hidden_act: str = "quick_gelu"):
    tokenizer = _tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=4,
        hidden_act=hidden_act,
        projection_dim=projection or width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _spread((CLIPTextModelWithProjection if projection else CLIPTextModel)(config))


def _tokenizer(pad: str = END) -> CLIPTokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77, pad_token=pad)


def _vae(**options):
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
        **options,
    )
    return _spread(vae)


def _spread(model: nn.Module) -> nn.Module:
    """Make the weights of norms differ, as in a trained model; a trainer starts them all at one."""
    for module in model.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            nn.init.normal_(module.weight, 1.0, 0.1)
            nn.init.normal_(module.bias, 0.0, 0.1)
    return model.eval()
