"""What a user asks for, checked against the model and the limits before anything is allocated."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Self, get_args

import numpy as np

from sdrt.errors import InputError, UnknownNameError
from sdrt.lora.tags import TAG
from sdrt.manifest import Conditioning, Manifest
from sdrt.picture_settings import MASK_BLUR, NO_SIDES, PictureSettings
from sdrt.prompt import PartPlan, Syntax, plan_prompt
from sdrt.samplers import (
    SamplerTable,
    SigmaSchedule,
    Spacing,
    compile_sampler,
    find_sampler,
    given_levels,
    schedule_name,
)
from sdrt.samplers.schedule import NoiseSchedule
from sdrt.samplers.schedules import Model
from sdrt.source_images import Alpha, Fit, Sides

MAX_PIXELS = 2048 * 2048
MAX_STEPS = 200
MAX_COUNT = 100
WHOLE = (0.0, 1.0)
SEEDS = 2**32


class Prompts(NamedTuple):
    """The parts that AND joins, and the negative prompt.

    shares: the parts are rather to be averaged, with these weights, which add up to 1.
    """

    parts: tuple[PartPlan, ...]
    negative: PartPlan
    shares: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Request:
    """A complete, valid request. width, height: pixels; picture i of `count` uses seed + i.

    spacing, sigma_schedule, eta: None, `plain` and None where the sampler has no choice.
    zero_negative: guide away from text states of zero rather than from those of a negative prompt.
    schedule: noise levels by a name of `sdrt.samplers.SCHEDULES`, as AUTOMATIC1111 or ComfyUI lay them, in
    place of spacing and sigma_schedule; sigmas: the levels one by one, falling to 0.
    guidance_interval: the part of the steps that is guided, of 0 to 1; the others run no negative prompt.
    deep_cache: of so many evaluations one runs the whole U-Net, others reuse its deep features; 1 is none.
    clip_skip: the layer of the text encoder whose states are used, counted from the last, 1.
    init_image: the picture to begin with, or that the model is shown. start_step: the first step taken, from
    0; the later, the more is left of the picture. fit: how the picture gets the size of the run. mask: white
    is painted anew, the rest stays as it is, but for mask_blur pixels (standard deviation). alpha: whether a
    transparent part is painted anew too. outpaint: pixels to paint around it, left, top, right, bottom.
    image_guidance: above 1 keeps an edit model closer to the picture.
    blend: texts and weights; the average of their embeddings stands in for the prompt's.
    variation_seed, variation_strength: how far the first noise is turned to another seed's, of 0 to 1.
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
    start_step: int = 0
    fit: Fit = "crop"
    alpha: Alpha = "hole"
    mask: Path | None = None
    mask_blur: float = MASK_BLUR
    outpaint: Sides = NO_SIDES
    image_guidance: float | None = None
    blend: tuple[tuple[str, float], ...] = ()
    variation_seed: int | None = None
    variation_strength: float = 0.0
    schedule: str | None = None
    sigmas: tuple[float, ...] = ()
    zero_negative: bool = False

    @property
    def title(self) -> str:
        """What it is to show, in words: the prompt, or those that are blended."""
        return self.prompt or ", ".join(text for text, _ in self.blend)

    @property
    def has_levels(self) -> bool:
        """Whether its noise levels are named or listed, rather than the model's."""
        return self.schedule is not None or bool(self.sigmas)

    @property
    def strength(self) -> float:
        """The part of the steps that is taken."""
        return 1.0 - self.start_step / self.steps

    def is_guided(self, step: int) -> bool:
        """Whether guidance is on in a step, counted from 0."""
        first, last = self.guidance_interval
        return first <= step / self.steps < last

    def prompts(self) -> Prompts:
        """The prompts as their syntax reads them."""
        (negative,) = plan_prompt(
            self.negative_prompt,
            self.steps,
            syntax=self.prompt_syntax,
            composition=False,
            called="negative prompt",
        )
        if not self.blend:
            return Prompts(plan_prompt(self.prompt, self.steps, syntax=self.prompt_syntax), negative)
        blended = [(text, weight) for text, weight in self.blend if weight != 0.0]
        total = sum(weight for _, weight in blended)
        plans = [
            plan_prompt(
                text, self.steps, syntax=self.prompt_syntax, composition=False, called="blended prompt"
            )
            for text, _ in blended
        ]
        return Prompts(
            tuple(plan for (plan,) in plans), negative, tuple(weight / total for _, weight in blended)
        )

    def compile(self, manifest: Manifest) -> SamplerTable:
        """The sampler's table for this model, its arrays read-only: equal requests share one."""
        return _table(
            self.sampler,
            manifest.schedule,
            self.steps,
            self.spacing,
            None if self.has_levels else self.sigma_schedule,
            self.eta,
            self.start_step,
            self.sigmas or self.schedule,
            manifest.published_levels,
        )


@lru_cache(maxsize=64)
def _table(
    sampler: str,
    schedule: NoiseSchedule,
    steps: int,
    spacing: Spacing | None,
    sigma_schedule: SigmaSchedule | None,
    eta: float | None,
    start: int,
    levels: str | tuple[float, ...] | None,
    model: Model,
) -> SamplerTable:
    """Compile once for a file of prompts, whose lines mostly share it: 1.1 of the 1.3 ms to check a line."""
    table = compile_sampler(
        sampler,
        schedule,
        steps,
        spacing=spacing,
        sigma_schedule=sigma_schedule,
        eta=eta,
        start=start,
        levels=levels,
        model=model,
    )
    for array in vars(table).values():
        if isinstance(array, np.ndarray):
            array.setflags(write=False)
    return table


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
    strength: float | None = None,
    start_step: int | None = None,
    fit: Fit = "crop",
    alpha: Alpha = "hole",
    mask: Path | str | None = None,
    mask_blur: float = MASK_BLUR,
    outpaint: int | Sides = 0,
    image_guidance: float | None = None,
    blend: Sequence[tuple[str, float]] = (),
    variation_seed: int | None = None,
    variation_strength: float | None = None,
    schedule: str | None = None,
    sigmas: tuple[float, ...] = (),
    zero_negative: bool = False,
    limits: bool = True,
) -> Request:
    """Fill in the model's defaults for what is None, and check the whole.

    seed: None or -1 is a random one. prompt_syntax: `a1111` for weights, schedules, AND and BREAK, `plain`
    for text as it stands. strength: the part of the steps that is taken, another way to say start_step; None
    is 0.8, or 1 where a mask, a hole or outpaint says what is painted anew. outpaint: one number for all
    sides. width, height: with init_image, None is its own size, or in proportion to the other side.
    limits: refuse sizes, counts and steps that are most likely mistakes.
    Raises InputError naming the nearest value that works.
    """
    defaults = manifest.defaults
    if manifest.conditioning.guidance_embedding is not None and negative_prompt:
        raise InputError("this model has its guidance built in and takes no negative prompt; leave it out")
    if zero_negative and negative_prompt:
        raise InputError("--zero-negative stands for a negative prompt; leave one of them out")
    picture = PictureSettings(
        init_image=None if init_image is None else Path(init_image),
        strength=strength,
        start_step=start_step,
        fit=fit,
        alpha=alpha,
        mask=None if mask is None else Path(mask),
        mask_blur=float(mask_blur),
        outpaint=outpaint,
        image_guidance=image_guidance,
    )
    picture.check(manifest)
    width, height = picture.size(manifest, width, height)
    steps_asked = steps
    steps = _at_least_one("steps", defaults.steps if steps is None else steps)
    if sampler is None:
        sampler = defaults.sampler
    found, named = find_sampler(sampler)
    trained = manifest.schedule
    inherited = trained.sigma_schedule if found.has_sigma_schedules else "plain"
    if schedule is not None or sigmas:
        levels = _Levels.asked(schedule, sigmas, steps_asked, spacing, sigma_schedule or named)
        schedule, sigmas, inherited, named = levels.schedule, levels.sigmas, "plain", None
        steps = levels.steps or steps
    elif spacing is None and len(found.spacings) > 1:
        spacing = trained.timestep_spacing
    request = Request(
        prompt=prompt,
        negative_prompt=negative_prompt,
        width=_side("width", defaults.width if width is None else width, manifest.vae.scale_factor),
        height=_side("height", defaults.height if height is None else height, manifest.vae.scale_factor),
        steps=steps,
        guidance_scale=defaults.guidance_scale if guidance_scale is None else float(guidance_scale),
        sampler=found.name,
        spacing=spacing,
        sigma_schedule=sigma_schedule or named or inherited,
        eta=found.eta if eta is None else float(eta),
        seed=secrets.randbelow(SEEDS) if seed in (None, -1) else int(seed or 0),
        count=_at_least_one("count", count),
        prompt_syntax=prompt_syntax,
        guidance_interval=_interval(manifest.conditioning, guidance_interval),
        deep_cache=_deep_cache(manifest, deep_cache),
        clip_skip=manifest.text[0].clip_skip if clip_skip is None else int(clip_skip),
        init_image=picture.init_image,
        start_step=picture.first_step(manifest, steps),
        fit=fit,
        alpha=alpha,
        mask=picture.mask,
        mask_blur=picture.mask_blur,
        outpaint=picture.sides,
        image_guidance=picture.image_guidance_scale(manifest),
        blend=_blend(prompt, blend),
        variation_seed=variation_seed,
        variation_strength=_variation(variation_seed, variation_strength),
        schedule=schedule,
        sigmas=sigmas,
        zero_negative=zero_negative,
    )
    if not math.isfinite(request.guidance_scale):
        raise InputError(f"guidance is {request.guidance_scale}; expected a finite number, 1 for no guidance")
    if not 0 <= request.seed < 2**64:
        raise InputError(f"seed is {request.seed}; expected 0 to {2**64 - 1}, or -1 for a random one")
    if limits:
        _check_limits(request)
    if prompt_syntax not in get_args(Syntax):
        raise UnknownNameError("prompt syntax", prompt_syntax, get_args(Syntax))
    for encoder in manifest.text:
        encoder.layer(request.clip_skip)
    if prompt_syntax == "a1111":
        for text in (prompt, negative_prompt, *(text for text, _ in request.blend)):
            _check_tags(text)
    _check_unicode(prompt, "prompt")
    _check_unicode(negative_prompt, "negative prompt")
    for text, _ in request.blend:
        _check_unicode(text, "blended prompt")
    request.compile(manifest)  # an impossible combination of sampler, steps and spacing shows here
    request.prompts()  # what passes a bound of the language shows here
    return request


class _Levels(NamedTuple):
    """Noise levels by name or one by one. steps: as many as levels are listed; None leaves them open."""

    schedule: str | None
    sigmas: tuple[float, ...]
    steps: int | None

    @classmethod
    def asked(
        cls,
        schedule: str | None,
        sigmas: Sequence[float],
        steps: int | None,
        spacing: Spacing | None,
        sigma_schedule: SigmaSchedule | None,
    ) -> Self:
        """Raise InputError if two settings say where the levels lie, or none of it is a list of levels."""
        rivals = [f"spacing {spacing}"] if spacing is not None else []
        # what a picture says of its own levels is plain, and no rival
        rivals += [f"{sigma_schedule} noise levels"] if sigma_schedule not in (None, "plain") else []
        if schedule is not None and sigmas:
            raise InputError("--schedule and --sigmas both say where the noise levels lie; leave one out")
        if rivals:
            option = "--sigmas" if sigmas else f"--schedule {schedule}"
            raise InputError(f"{option} says where the noise levels lie; leave {' and '.join(rivals)} out")
        if schedule is not None:
            return cls(schedule_name(schedule), (), None)
        levels = given_levels(sigmas).sigmas
        if steps not in (None, len(levels) - 1):
            raise InputError(
                f"--sigmas has {len(levels) - 1} steps, and steps is {steps}; leave one of them out"
            )
        return cls(None, levels, len(levels) - 1)


def _check_unicode(text: str, called: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the {called} is not valid Unicode: remove the lone surrogate at position {error.start}"
        ) from None


def _check_tags(text: str) -> None:
    """LoRAs are part of a loaded model, and whoever loads it takes them out of the prompts."""
    found = TAG.search(text)
    if found is not None:
        raise InputError(
            f"{found[0]} is loaded with the model: Pipeline.load(loras=[(file, weight)]); take it out of the "
            "prompt, or read that as text with the prompt syntax plain"
        )


def _blend(prompt: str, asked: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    blend = tuple((text, float(weight)) for text, weight in asked)
    if not blend:
        return ()
    if prompt:
        raise InputError("a prompt and --blend exclude each other; blend the prompt too, or leave it out")
    total = sum(weight for _, weight in blend)
    if not (math.isfinite(total) and total > 0):
        raise InputError(f"the weights of the blend add up to {total:g}; expected more than 0")
    return blend


def _variation(seed: int | None, strength: float | None) -> float:
    if seed is None:
        if strength is not None:
            raise InputError("--variation-strength needs a seed to vary towards; give --variation-seed")
        return 0.0
    if not 0 <= seed < 2**64:
        raise InputError(f"variation seed is {seed}; expected 0 to {2**64 - 1}")
    if strength is None or not 0 <= strength <= 1:
        raise InputError(f"variation strength is {strength}; expected 0, the seed alone, to 1")
    return float(strength)


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
        scale = "" if request.init_image is None else "scale the picture with -W or -H, or "
        raise InputError(
            f"{request.width}x{request.height} is {request.width * request.height} pixels, "
            f"the limit is {MAX_PIXELS}; {scale}{lift}"
        )
    if request.steps > MAX_STEPS:
        raise InputError(f"steps is {request.steps}, the limit is {MAX_STEPS}; {lift}")
    if request.count > MAX_COUNT:
        raise InputError(f"count is {request.count}, the limit is {MAX_COUNT}; {lift}")
