"""The samplers by name; each compiles to a `SamplerTable` that one denoising step replays."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sdrt.errors import InputError, UnknownNameError
from sdrt.samplers.ddim import compile_ddim
from sdrt.samplers.dpmpp import compile_dpmpp_2m
from sdrt.samplers.euler import compile_euler
from sdrt.samplers.schedule import NoiseSchedule, PredictionType, Spacing
from sdrt.samplers.table import COLUMNS, SLOTS, SamplerTable

__all__ = [
    "COLUMNS",
    "SAMPLERS",
    "SLOTS",
    "NoiseSchedule",
    "PredictionType",
    "Sampler",
    "SamplerTable",
    "Spacing",
    "compile_sampler",
    "find_sampler",
]


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """One entry of the table of samplers.

    title: as AUTOMATIC1111 writes it; aliases: other tools' names and diffusers' class.
    order: the power of the step size that the error falls with; has_karras: may use Karras's noise levels.
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    order: int
    evaluations_per_step: int
    stochastic: bool
    has_karras: bool
    compile: Callable[..., SamplerTable]


SAMPLERS = {
    sampler.name: sampler
    for sampler in (
        Sampler(
            name="ddim",
            title="DDIM",
            aliases=("DDIMScheduler",),
            order=1,
            evaluations_per_step=1,
            stochastic=False,
            has_karras=False,
            compile=compile_ddim,
        ),
        Sampler(
            name="euler",
            title="Euler",
            aliases=("k_euler", "EulerDiscreteScheduler"),
            order=1,
            evaluations_per_step=1,
            stochastic=False,
            has_karras=True,
            compile=compile_euler,
        ),
        Sampler(
            name="dpmpp_2m",
            title="DPM++ 2M",
            aliases=("k_dpmpp_2m", "DPMSolverMultistepScheduler"),
            order=2,
            evaluations_per_step=1,
            stochastic=False,
            has_karras=True,
            compile=compile_dpmpp_2m,
        ),
    )
}


def find_sampler(name: str) -> tuple[Sampler, bool]:
    """The sampler of that name in any tool's spelling, and whether the name asks for Karras noise levels.

    `DPM++ 2M Karras`, `dpmpp_2m_karras` and `DPMSolverMultistepScheduler` all name `dpmpp_2m`.
    Raises UnknownNameError with the nearest names.
    """
    key = _spelling(name)
    plain = key.removesuffix("karras")
    for candidate, karras in ((key, False), (plain, True)):
        sampler = _BY_SPELLING.get(candidate)
        if sampler is not None and (not karras or sampler.has_karras):
            return sampler, karras
    raise UnknownNameError("sampler", name, _names_that_exist())


def compile_sampler(
    name: str, schedule: NoiseSchedule, steps: int, *, spacing: Spacing | None = None, karras: bool = False
) -> SamplerTable:
    """Compile a sampler for a model's noise schedule.

    spacing: overrides the schedule's own. karras: Karras's noise levels, as if the name ended in it.
    Raises InputError for a step count the schedule cannot hold, or Karras levels where there are none.
    """
    sampler, named_karras = find_sampler(name)
    total = schedule.num_train_timesteps
    if not 1 <= steps < total:
        raise InputError(f"steps is {steps}; expected 1 to {total - 1}")
    if spacing is not None:
        schedule = msgspec.structs.replace(schedule, timestep_spacing=spacing)
    if karras and not sampler.has_karras:
        raise InputError(
            f"{sampler.title} has no Karras noise levels; leave --karras out or take another sampler"
        )
    levels = {"karras": karras or named_karras} if sampler.has_karras else {}
    return sampler.compile(schedule, steps, **levels)


def _spelling(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("++", "pp"))


def _names_that_exist() -> list[str]:
    return [
        name for s in SAMPLERS.values() for name in (s.name, *([f"{s.name}_karras"] if s.has_karras else []))
    ]


_BY_SPELLING = {
    _spelling(name): sampler
    for sampler in SAMPLERS.values()
    for name in (sampler.name, sampler.title, *sampler.aliases)
}
