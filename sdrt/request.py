"""What a user asks for, checked against the model and the limits before anything is allocated."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

from sdrt.errors import InputError
from sdrt.manifest import Manifest
from sdrt.samplers import SamplerTable, SigmaSchedule, Spacing, compile_sampler, find_sampler

MAX_PIXELS = 2048 * 2048
MAX_STEPS = 200
MAX_COUNT = 100
_SEEDS = 2**32


@dataclass(frozen=True, kw_only=True)
class Request:
    """A complete, valid request. width, height: pixels; picture i of `count` uses seed + i.

    spacing, sigma_schedule, eta: None, `plain` and None where the sampler has no choice.
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
    limits: bool = True,
) -> Request:
    """Fill in the model's defaults for what is None, and check the whole.

    seed: None or -1 is a random one. limits: refuse sizes, counts and steps that are most likely mistakes.
    Raises InputError naming the nearest value that works.
    """
    defaults = manifest.defaults
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
    )
    if not math.isfinite(request.guidance_scale):
        raise InputError(f"guidance is {request.guidance_scale}; expected a finite number, 1 for no guidance")
    if not 0 <= request.seed < 2**64:
        raise InputError(f"seed is {request.seed}; expected 0 to {2**64 - 1}, or -1 for a random one")
    if limits:
        _check_limits(request)
    request.compile(manifest)  # an impossible combination of sampler, steps and spacing shows here
    return request


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
