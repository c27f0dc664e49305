"""The two ways to get pictures to score: diffusers on the checkpoint, and the sdrt runtime on a bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTokenizer

from .drawing import Bytes
from .scoring import Generate, Prompt

DEFAULTS_FILE = "sdrt_defaults.json"
SCHEDULERS: dict[str, Any] = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to sample. `spacing` None is the one of the scheduler's own configuration."""

    steps: int = 20
    guidance_scale: float = 2.0
    sampler: str = "ddim"
    spacing: str | None = None

    @classmethod
    def of(cls, checkpoint: Path) -> Settings:
        """The default settings that the checkpoint carries."""
        values = json.loads((checkpoint / DEFAULTS_FILE).read_text())
        return cls(**{name: values[name] for name in ("steps", "guidance_scale", "sampler")})


def from_pipeline(pipe: StableDiffusionPipeline, settings: Settings, batch: int = 50) -> Generate:
    """A generator that runs a diffusers pipeline, with a generator on the host for every seed."""
    options = {} if settings.spacing is None else {"timestep_spacing": settings.spacing}
    pipe.scheduler = SCHEDULERS[settings.sampler].from_config(pipe.scheduler.config, **options)
    pipe.set_progress_bar_config(disable=True)

    def generate(prompts: Sequence[Prompt]) -> Bytes:
        parts = []
        for start in range(0, len(prompts), batch):
            chosen = prompts[start : start + batch]
            images = pipe(
                [prompt.text for prompt in chosen],
                generator=[torch.Generator("cpu").manual_seed(prompt.seed) for prompt in chosen],
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance_scale,
                output_type="np",
            ).images
            parts.append((images * 255).round().astype(np.uint8))
        return np.concatenate(parts)

    return generate


def assemble_pipeline(
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
) -> StableDiffusionPipeline:
    """A pipeline of these parts, with no safety checker."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def load_pipeline(checkpoint: Path) -> StableDiffusionPipeline:
    """The checkpoint's weights as stored, computed in float32."""
    return StableDiffusionPipeline.from_pretrained(
        checkpoint, torch_dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )


def from_bundle(bundle: Path) -> Generate:
    """A generator that runs the sdrt runtime with the bundle's own default settings."""
    import sdrt

    pipe = sdrt.Pipeline.load(bundle)

    def generate(prompts: Sequence[Prompt]) -> Bytes:
        return np.stack([pipe.generate(prompt.text, seed=prompt.seed)[0].pixels for prompt in prompts])

    return generate
