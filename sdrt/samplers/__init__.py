"""The samplers by name; each compiles to a `SamplerTable` that one denoising step replays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np

from sdrt.errors import InputError
from sdrt.samplers.catalogue import SAMPLERS, Sampler
from sdrt.samplers.names import find_sampler
from sdrt.samplers.paths import level_path
from sdrt.samplers.schedule import FinalSigma, NoiseSchedule, PredictionType, SigmaSchedule, Spacing
from sdrt.samplers.schedules import (
    COMFYUI,
    SCHEDULES,
    Model,
    Training,
    given_levels,
    named_levels,
    schedule_name,
    without_penultimate,
)
from sdrt.samplers.table import COLUMNS, SLOTS, Path, SamplerTable, compile_path

__all__ = [
    "COLUMNS",
    "COMFYUI",
    "SAMPLERS",
    "SCHEDULES",
    "SLOTS",
    "FinalSigma",
    "NoiseSchedule",
    "PredictionType",
    "Sampler",
    "SamplerTable",
    "SigmaSchedule",
    "Spacing",
    "compile_sampler",
    "find_sampler",
    "given_levels",
    "schedule_name",
]
_ALMOST_ZERO = 0.001  # where ComfyUI's UniPC ends, whose lambda is infinite at 0


def compile_sampler(
    name: str,
    schedule: NoiseSchedule,
    steps: int,
    *,
    spacing: Spacing | None = None,
    sigma_schedule: SigmaSchedule | None = None,
    eta: float | None = None,
    start: int = 0,
    levels: str | Sequence[float] | None = None,
    model: Model = "sd1",
) -> SamplerTable:
    """Compile a sampler for a model's noise schedule.

    spacing, sigma_schedule: override the schedule's own; what the name says (`DPM++ 2M Karras`) does too.
    eta: share of fresh noise, 0 to 1; None is the sampler's default. start: the first step to take, for runs
    that begin with a picture. levels: noise levels, by a name of SCHEDULES or one by one, in place of spacing
    and sigma_schedule; the table's steps are then numbered up to `steps` - 1 even if there are more.
    model: which of the published levels are taken, where there are several.
    Raises InputError for a step count the schedule cannot hold, or an option the sampler does not have.
    """
    sampler, named = find_sampler(name)
    total = schedule.num_train_timesteps
    if not 1 <= steps < total:
        raise InputError(f"steps is {steps}; expected 1 to {total - 1}")
    if not 0 <= start < steps:
        raise InputError(f"start is {start}; expected 0 to {steps - 1}, the last of {steps} steps")
    if spacing is not None and spacing not in sampler.spacings:
        known = " and ".join(sampler.spacings) or "one way"
        raise InputError(f"{sampler.title} places its timesteps in {known} only; leave --spacing out")
    sigma_schedule = sigma_schedule or named
    if sigma_schedule not in (None, "plain") and not sampler.has_sigma_schedules:
        raise InputError(
            f"{sampler.title} has no {sigma_schedule.capitalize()} noise levels; "
            "leave --sigma-schedule and --karras out, or take another sampler"
        )
    prediction = schedule.prediction_type
    if prediction not in sampler.predictions:
        fit = [s.name for s in SAMPLERS.values() if prediction in s.predictions]
        raise InputError(
            f"{sampler.title} is not for models that predict {prediction}; take {' or '.join(fit)}"
        )
    if levels is not None:
        asked = [one for one in (spacing, sigma_schedule) if one is not None]
        if asked:
            raise InputError(f"noise levels are named or listed already; leave {' and '.join(asked)} out")
        path, first = _along_levels(sampler, schedule, steps, levels, model, start)
        table = compile_path(path, sampler.step_function(schedule, eta), prediction, start=first)
        return replace(table, steps=np.minimum(table.steps, steps - 1))
    changes = {"timestep_spacing": spacing, "sigma_schedule": sigma_schedule}
    schedule = msgspec.structs.replace(schedule, **{k: v for k, v in changes.items() if v is not None})
    path = sampler.path(schedule, steps)
    return compile_path(path, sampler.step_function(schedule, eta), prediction, start=start)


def _along_levels(
    sampler: Sampler,
    schedule: NoiseSchedule,
    steps: int,
    asked: str | Sequence[float],
    model: Model,
    start: int,
) -> tuple[Path, int]:
    """The path along named or listed levels, and the leg that step `start` is."""
    if sampler.space is None or schedule.prediction_type == "flow":
        why = "for a flow model" if schedule.prediction_type == "flow" else "of its own"
        same = "; Euler takes the same step" if sampler.name == "ddim" else ""
        raise InputError(f"{sampler.title} has noise levels {why}; leave --schedule and --sigmas out{same}")
    if isinstance(asked, str):
        comfyui = schedule_name(asked).startswith(COMFYUI)
        training = Training.of(schedule, comfyui=comfyui)
        skips = sampler.skips_penultimate == "all" or (comfyui and sampler.skips_penultimate == "comfyui")
        levels = named_levels(asked, training, steps + 1 if skips else steps, model)
        if skips:
            levels = without_penultimate(levels)
        if comfyui and sampler.skips_penultimate == "comfyui":
            levels = replace(levels, sigmas=(*levels.sigmas[:-1], _ALMOST_ZERO))
    else:
        comfyui, levels = False, given_levels(asked)
    path = level_path(schedule, levels, sampler.space)
    if start == 0:
        return path, 0
    # ComfyUI counts the steps that are left, AUTOMATIC1111 those that are left out
    first = len(path.legs) - (steps - start) if comfyui else start
    return path, min(max(first, 0), len(path.legs) - 1)
