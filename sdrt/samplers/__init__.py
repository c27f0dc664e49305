"""The samplers by name; each compiles to a `SamplerTable` that one denoising step replays."""

from __future__ import annotations

import msgspec

from sdrt.errors import InputError
from sdrt.samplers.catalogue import SAMPLERS, Sampler
from sdrt.samplers.names import find_sampler
from sdrt.samplers.schedule import FinalSigma, NoiseSchedule, PredictionType, SigmaSchedule, Spacing
from sdrt.samplers.table import COLUMNS, SLOTS, SamplerTable, compile_path

__all__ = [
    "COLUMNS",
    "SAMPLERS",
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
]


def compile_sampler(
    name: str,
    schedule: NoiseSchedule,
    steps: int,
    *,
    spacing: Spacing | None = None,
    sigma_schedule: SigmaSchedule | None = None,
    eta: float | None = None,
    start: int = 0,
) -> SamplerTable:
    """Compile a sampler for a model's noise schedule.

    spacing, sigma_schedule: override the schedule's own; what the name says (`DPM++ 2M Karras`) does too.
    eta: share of fresh noise, 0 to 1; None is the sampler's default. start: the first step to take, for runs
    that begin with a picture.
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
    changes = {"timestep_spacing": spacing, "sigma_schedule": sigma_schedule}
    schedule = msgspec.structs.replace(schedule, **{k: v for k, v in changes.items() if v is not None})
    path = sampler.path(schedule, steps)
    return compile_path(path, sampler.step_function(schedule, eta), prediction, start=start)
