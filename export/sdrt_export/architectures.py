"""The architectures that sdrt knows by name, as options of the classes that build them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from .configs import TEXT_ENCODERS
from .specs import MODELS, Component


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a model is made of: options of its classes beside their defaults, by component.

    index: of model_index.json, as far as it says anything that the configs do not.
    """

    options: Mapping[Component, Mapping[str, Any]]
    scheduler: Callable[[], Any]
    index: Mapping[str, Any] = field(default_factory=dict)

    def build(self, component: Component) -> Any:
        """A component with weights of no particular value."""
        options = self.options[component]
        if component in TEXT_ENCODERS:
            return MODELS[component](CLIPTextConfig(**options))
        return MODELS[component](**options)

    def configs(self) -> dict[str, dict[str, Any]]:
        """The whole config of each component and of the scheduler, defaults included."""
        with torch.device("meta"):
            made = {component: _config_of(self.build(component)) for component in self.options}
        configs: dict[str, dict[str, Any]] = {"scheduler": _config_of(self.scheduler())}
        return configs | {str(component): config for component, config in made.items()}


def _config_of(model: Any) -> dict[str, Any]:
    if isinstance(model, CLIPTextModel | CLIPTextModelWithProjection):
        fields: dict[str, Any] = model.config.to_dict()
    else:
        fields = json.loads(model.to_json_string())
    return fields


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
_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}

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
}

# The refiner of Stable Diffusion XL has the second of its text encoders alone.
REFINER = Architecture(
    options={
        "text_encoder_2": _OPEN_CLIP_BIG_G,
        "unet": {
            "sample_size": 128,
            "cross_attention_dim": 1280,
            "down_block_types": (
                "DownBlock2D",
                "CrossAttnDownBlock2D",
                "CrossAttnDownBlock2D",
                "DownBlock2D",
            ),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "block_out_channels": (384, 768, 1536, 1536),
            "transformer_layers_per_block": 4,
            "attention_head_dim": (6, 12, 24, 24),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2560,
        },
        "vae": {**_VAE, "sample_size": 1024, "scaling_factor": 0.13025},
    },
    scheduler=ARCHITECTURES["sdxl"].scheduler,
    index={"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
)
