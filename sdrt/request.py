"""What a user asks for, checked against the model and the limits before anything is allocated."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

from sdrt.errors import InputError, UnknownNameError
from sdrt.manifest import Conditioning, Manifest
from sdrt.prompt import PartPlan, Syntax, plan_prompt
from sdrt.samplers import SamplerTable, SigmaSchedule, Spacing, compile_sampler, find_sampler
from sdrt.source_images import image_size

MAX_PIXELS = 2048 * 2048
MAX_STEPS = 200
MAX_COUNT = 100
WHOLE = (0.0, 1.0)
IMAGE_GUIDANCE = 1.5  # as in diffusers and in the paper's figures
_SEEDS = 2**32


class Prompts(NamedTuple):
    """The parts that AND joins, and the negative prompt."""

    parts: tuple[PartPlan, ...]
    negative: PartPlan


@dataclass(frozen=True, kw_only=True)
class Request:
    """A complete, valid request. width, height: pixels; picture i of `count` uses seed + i.

    spacing, sigma_schedule, eta: None, `plain` and None where the sampler has no choice.
    guidance_interval: the part of the steps that is guided, of 0 to 1; the others run no negative prompt.
    deep_cache: one evaluation of so many runs the whole U-Net, the others reuse its deep features; 1 is none.
    clip_skip: the layer of the text encoder whose states are used, counted from the last, 1.
    init_image, mask, image_guidance: of models that are shown a picture; white is what an inpainting model
    paints, and an image_guidance above 1 keeps an edit model closer to the picture.
    """

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    sampler: str
    spacing: Spacing | None
    sigma_schedule: SigmaSchedule
    eta: float | None
    seed: int
    count: int
    prompt_syntax: Syntax
    clip_skip: int
    guidance_interval: tuple[float, float] = WHOLE
    deep_cache: int = 1
    init_image: Path | None = None
    mask: Path | None = None
    image_guidance: float | None = None

    def is_guided(self, step: int) -> bool:
        """Whether guidance is on in a step, counted from 0."""
        first, last = self.guidance_interval
        return first <= step / self.steps < last

    def prompts(self) -> Prompts:
        """The prompts as their syntax reads them."""
        parts = plan_prompt(self.prompt, self.steps, syntax=self.prompt_syntax)
        (negative,) = plan_prompt(
            self.negative_prompt,
            self.steps,
            syntax=self.prompt_syntax,
            composition=False,
            called="negative prompt",
        )
        return Prompts(parts, negative)

    def compile(self, manifest: Manifest) -> SamplerTable:
        """The sampler's table for this model."""
        return compile_sampler(
            self.sampler,
            manifest.schedule,
            self.steps,
            spacing=self.spacing,
            sigma_schedule=self.sigma_schedule,
            eta=self.eta,
        )


def resolve_request(
    manifest: Manifest,
    prompt: str,
    *,
    negative_prompt: str = "",
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    spacing: Spacing | None = None,
    sigma_schedule: SigmaSchedule | None = None,
    eta: float | None = None,
    seed: int | None = None,
    count: int = 1,
    prompt_syntax: Syntax = "a1111",
    clip_skip: int | None = None,
    guidance_interval: tuple[float, float] = WHOLE,
    deep_cache: int = 1,
    init_image: Path | str | None = None,
    mask: Path | str | None = None,
    image_guidance: float | None = None,
    limits: bool = True,
) -> Request:
    """Fill in the model's defaults for what is None, and check the whole.

    seed: None or -1 is a random one. prompt_syntax: `a1111` for weights, schedules, AND and BREAK, `plain`
    for text as it stands. limits: refuse sizes, counts and steps that are most likely mistakes.
    Raises InputError naming the nearest value that works.
    """
    defaults = manifest.defaults
    init_image, mask = (None if path is None else Path(path) for path in (init_image, mask))
    _check_pictures(manifest.conditioning, negative_prompt, init_image, mask, image_guidance)
    if init_image is not None:
        sides = image_size(init_image)
        width, height = (
            asked or max(side - side % manifest.vae.scale_factor, manifest.vae.scale_factor)
            for asked, side in zip((width, height), sides, strict=True)
        )
    if sampler is None:
        sampler = defaults.sampler
    found, named = find_sampler(sampler)
    schedule = manifest.schedule
    inherited = schedule.sigma_schedule if found.has_sigma_schedules else "plain"
    if spacing is None and len(found.spacings) > 1:
        spacing = schedule.timestep_spacing
    request = Request(
        prompt=prompt,
        negative_prompt=negative_prompt,
        width=_side("width", defaults.width if width is None else width, manifest.vae.scale_factor),
        height=_side("height", defaults.height if height is None else height, manifest.vae.scale_factor),
        steps=_at_least_one("steps", defaults.steps if steps is None else steps),
        guidance_scale=defaults.guidance_scale if guidance_scale is None else float(guidance_scale),
        sampler=found.name,
        spacing=spacing,
        sigma_schedule=sigma_schedule or named or inherited,
        eta=found.eta if eta is None else float(eta),
        seed=secrets.randbelow(_SEEDS) if seed in (None, -1) else int(seed or 0),
        count=_at_least_one("count", count),
        prompt_syntax=prompt_syntax,
        guidance_interval=_interval(manifest.conditioning, guidance_interval),
        deep_cache=_deep_cache(manifest, deep_cache),
        clip_skip=manifest.text[0].clip_skip if clip_skip is None else int(clip_skip),
        init_image=init_image,
        mask=mask,
        image_guidance=_image_guidance(manifest.conditioning, image_guidance),
    )
    if not math.isfinite(request.guidance_scale):
        raise InputError(f"guidance is {request.guidance_scale}; expected a finite number, 1 for no guidance")
    if not 0 <= request.seed < 2**64:
        raise InputError(f"seed is {request.seed}; expected 0 to {2**64 - 1}, or -1 for a random one")
    if limits:
        _check_limits(request)
    if prompt_syntax not in get_args(Syntax):
        raise UnknownNameError("prompt syntax", prompt_syntax, get_args(Syntax))
    for text in manifest.text:
        text.layer(request.clip_skip)
    _check_unicode(prompt, "prompt")
    _check_unicode(negative_prompt, "negative prompt")
    request.compile(manifest)  # an impossible combination of sampler, steps and spacing shows here
    request.prompts()  # what passes a bound of the language shows here
    return request


def _check_unicode(text: str, called: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the {called} is not valid Unicode: remove the lone surrogate at position {error.start}"
        ) from None


def _check_pictures(
    model: Conditioning,
    negative_prompt: str,
    init_image: Path | None,
    mask: Path | None,
    image_guidance: float | None,
) -> None:
    if model.guidance_embedding is not None and negative_prompt:
        raise InputError("this model has its guidance built in and takes no negative prompt; leave it out")
    if model.picture is None and (init_image or mask):
        raise InputError(
            "this model makes pictures from text alone; pictures are for inpainting and edit models"
        )
    if model.picture is not None and init_image is None:
        what = "--init-image and --mask" if model.picture == "inpainting" else "--init-image"
        raise InputError(f"this model changes a picture; give it one with {what}")
    if (model.picture == "inpainting") != (mask is not None):
        raise InputError(
            "this is an inpainting model; say what it may change with --mask, white on black"
            if mask is None
            else "a mask is for inpainting models; leave --mask out"
        )
    if model.picture != "edit" and image_guidance is not None:
        raise InputError("image guidance is for InstructPix2Pix models; leave --image-guidance out")


def _image_guidance(model: Conditioning, asked: float | None) -> float | None:
    if model.picture != "edit":
        return None
    guidance = IMAGE_GUIDANCE if asked is None else float(asked)
    if not math.isfinite(guidance):
        raise InputError(f"image guidance is {guidance}; expected a finite number, 1 for none")
    return guidance


def _interval(model: Conditioning, asked: tuple[float, float]) -> tuple[float, float]:
    first, last = asked
    if not 0 <= first < last <= 1:
        raise InputError(
            f"the guidance interval is {first:g} to {last:g}; expected parts of the steps, such as 0 to 0.6"
        )
    if model.guidance_embedding is not None and asked != WHOLE:
        raise InputError("this model has its guidance built in; leave --guidance-interval out")
    return (first, last)


def _deep_cache(manifest: Manifest, asked: int) -> int:
    if _at_least_one("deep cache", asked) > 1 and "unet_shallow" not in manifest.graphs:
        raise InputError(
            f"the bundle {manifest.name} has no shallow U-Net; export it again with --deep-cache, "
            f"or leave --deep-cache {asked} out"
        )
    return asked


def _side(name: str, value: int, multiple: int) -> int:
    if value < multiple:
        raise InputError(f"{name} is {value}; the smallest is {multiple}")
    if value % multiple:
        below = value // multiple * multiple
        raise InputError(
            f"{name} is {value}, not a multiple of {multiple}; the nearest are {below} and {below + multiple}"
        )
    return value


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise InputError(f"{name} is {value}; expected 1 or more")
    return value


def _check_limits(request: Request) -> None:
    lift = "lift the limit with --no-limits"
    if request.width * request.height > MAX_PIXELS:
        raise InputError(
            f"{request.width}x{request.height} is {request.width * request.height} pixels, "
            f"the limit is {MAX_PIXELS}; {lift}"
        )
    if request.steps > MAX_STEPS:
        raise InputError(f"steps is {request.steps}, the limit is {MAX_STEPS}; {lift}")
    if request.count > MAX_COUNT:
        raise InputError(f"count is {request.count}, the limit is {MAX_COUNT}; {lift}")
