"""True architectures with seeded random weights: for whatever needs full size but not a picture.

Weights are normal with variance 1 / fan-in, so that activations keep their size through the layers: the
largest in the U-Net of Stable Diffusion 1.5 is about 20, far below FP16's 65504.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
)
from tokenizers import pre_tokenizers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from .checkpoint import Checkpoint
from .configs import TEXT_ENCODERS, TOKENIZERS, read_configs
from .parameters import build_empty
from .specs import MODELS, Component

START, END = "<|startoftext|>", "<|endoftext|>"
# The networks' outputs would have a standard deviation of 0.6; noise and pictures have about 1.
LAST_LAYER_GAIN = 1.7


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a model is made of: options of its classes beside their defaults, by component."""

    options: Mapping[Component, Mapping[str, Any]]
    scheduler: Callable[[], Any]
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def build(self, component: Component) -> Any:
        """A component with weights of no particular value."""
        options = self.options[component]
        if component in TEXT_ENCODERS:
            return MODELS[component](CLIPTextConfig(**options))
        return MODELS[component](**options)


def open_random(source: str, architecture: Architecture) -> Checkpoint:
    """Open a random model; weights are made when a component is loaded."""
    with torch.device("meta"):
        empty = {component: architecture.build(component) for component in architecture.options}
    configs = {component: _config_of(model) for component, model in empty.items()}
    text_encoders = {name: configs[name] for name in TEXT_ENCODERS if name in configs}
    tokenizers = {
        TOKENIZERS[name]: byte_tokenizer(config["bos_token_id"], config["eos_token_id"])
        for name, config in text_encoders.items()
    }
    return Checkpoint(
        source=source,
        fingerprint=source,
        configs=read_configs(
            index={},
            text_encoders=text_encoders,
            unet=configs["unet"],
            vae=configs["vae"],
            scheduler=_config_of(architecture.scheduler()),
            tokenizers=tokenizers,
            overrides=architecture.overrides,
        ),
        tokenizers=tokenizers,
        parameters={
            component: sum(parameter.numel() for parameter in model.parameters())
            for component, model in empty.items()
        },
        build=lambda component: build_empty(lambda: architecture.build(component)),
        weights=lambda component: RandomWeights(empty[component], component),
    )


class RandomWeights:
    """Parameters of a seed, each drawn when it is asked for, in float32."""

    def __init__(self, model: nn.Module, component: Component, seed: int = 0) -> None:
        self._parameters = dict(model.named_parameters())
        self._seed = f"{component} {seed}"

    def __getitem__(self, name: str) -> Tensor:
        # of a name and not of an order, so that one can be drawn without the others
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self._seed} {name}".encode()))
        drawn = torch.empty(self.shape(name))
        if drawn.ndim > 1:
            gain = LAST_LAYER_GAIN if "conv_out" in name else 1.0
            return drawn.normal_(0.0, gain / drawn[0].numel() ** 0.5, generator=generator)
        return drawn.normal_(float(name.endswith("weight")), 0.02, generator=generator)

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a parameter."""
        return tuple(self._parameters[name].shape)


def byte_tokenizer(bos_token_id: int, eos_token_id: int) -> CLIPTokenizer:
    """A CLIP tokenizer whose 512 tokens are the bytes, inside a word and at its end; window 77."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    vocabulary |= {START: bos_token_id, END: eos_token_id}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


_TOKENS = {
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
_CLIP_L = {
    **_TOKENS,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
# 23 of its 24 layers: Stable Diffusion 2 was trained on what goes into the last
_OPEN_CLIP_H = {
    **_TOKENS,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 512,
}
_OPEN_CLIP_BIG_G = {
    **_TOKENS,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
_TINY_UNET = {
    "sample_size": 16,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
_TINY_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (16, 16),
    "norm_num_groups": 8,
    "sample_size": 32,
}
_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def _tiny(text_encoder: Mapping[str, Any], width: int) -> dict[str, Any]:
    """Options of a text encoder in two narrow layers."""
    narrow = {"hidden_size": width, "intermediate_size": 2 * width, "projection_dim": width}
    return {**text_encoder, **narrow, "num_hidden_layers": 2, "num_attention_heads": 4}


ARCHITECTURES: dict[str, Architecture] = {
    "sd15": Architecture(
        options={
            "text_encoder": _CLIP_L,
            "unet": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
            "vae": {**_VAE, "sample_size": 512},
        },
        scheduler=lambda: PNDMScheduler(**_NOISE, skip_prk_steps=True, set_alpha_to_one=False),
    ),
    "sd21": Architecture(
        options={
            "text_encoder": _OPEN_CLIP_H,
            "unet": {
                "sample_size": 96,
                "cross_attention_dim": 1024,
                "attention_head_dim": (5, 10, 20, 20),
                "use_linear_projection": True,
            },
            "vae": {**_VAE, "sample_size": 768},
        },
        scheduler=lambda: DDIMScheduler(
            **_NOISE, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False
        ),
    ),
    "sdxl": Architecture(
        options={
            "text_encoder": _CLIP_L,
            "text_encoder_2": _OPEN_CLIP_BIG_G,
            "unet": {
                "sample_size": 128,
                "cross_attention_dim": 2048,
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "block_out_channels": (320, 640, 1280),
                "transformer_layers_per_block": (1, 2, 10),
                "attention_head_dim": (5, 10, 20),
                "use_linear_projection": True,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
            },
            "vae": {**_VAE, "sample_size": 1024, "scaling_factor": 0.13025},
        },
        scheduler=lambda: EulerDiscreteScheduler(**_NOISE, timestep_spacing="leading"),
    ),
    # like Stable Diffusion 1.5 and XL in everything but size: what takes minutes with those takes seconds
    "tiny": Architecture(
        options={
            "text_encoder": _tiny(_CLIP_L, 32),
            "unet": {
                **_TINY_UNET,
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
                "cross_attention_dim": 32,
                "attention_head_dim": 4,
            },
            "vae": _TINY_VAE,
        },
        scheduler=lambda: PNDMScheduler(**_NOISE, skip_prk_steps=True, set_alpha_to_one=False),
    ),
    "tiny-xl": Architecture(
        options={
            "text_encoder": _tiny(_CLIP_L, 32),
            "text_encoder_2": _tiny(_OPEN_CLIP_BIG_G, 64),
            "unet": {
                **_TINY_UNET,
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
                "cross_attention_dim": 96,
                "transformer_layers_per_block": (1, 2),
                "attention_head_dim": (2, 4),
                "use_linear_projection": True,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 64 + 6 * 8,
            },
            "vae": {**_TINY_VAE, "scaling_factor": 0.13025},
        },
        scheduler=lambda: EulerDiscreteScheduler(**_NOISE, timestep_spacing="leading"),
    ),
}


def _config_of(model: Any) -> dict[str, Any]:
    if isinstance(model, CLIPTextModel | CLIPTextModelWithProjection):
        fields: dict[str, Any] = model.config.to_dict()
    else:
        fields = json.loads(model.to_json_string())
    return fields
