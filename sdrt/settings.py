"""The keywords of `resolve_request` as a type, for what passes them on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from sdrt.prompt import Syntax
from sdrt.samplers import SigmaSchedule, Spacing
from sdrt.source_images import Alpha, Fit, Sides


class Settings(TypedDict, total=False):
    """What a picture is to be like; what is left out is the model's. `sdrt.Request` says what each means."""

    negative_prompt: str
    width: int | None
    height: int | None
    steps: int | None
    guidance_scale: float | None
    sampler: str | None
    spacing: Spacing | None
    sigma_schedule: SigmaSchedule | None
    eta: float | None
    seed: int | None
    count: int
    prompt_syntax: Syntax
    clip_skip: int | None
    guidance_interval: tuple[float, float]
    deep_cache: int
    init_image: Path | str | None
    strength: float | None
    start_step: int | None
    fit: Fit
    alpha: Alpha
    mask: Path | str | None
    mask_blur: float
    outpaint: int | Sides
    image_guidance: float | None
    blend: Sequence[tuple[str, float]]
    variation_seed: int | None
    variation_strength: float | None
    schedule: str | None
    sigmas: tuple[float, ...]
    zero_negative: bool
    limits: bool
