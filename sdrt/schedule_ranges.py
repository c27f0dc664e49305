"""Whether the numbers of a noise schedule are ones that a model can have been trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sdrt.samplers.schedule import NoiseSchedule

# field -> least and largest value; the schedules that are published have 1000 timesteps and a shift up to 12
_RANGES: Mapping[str, tuple[float, float]] = {
    "num_train_timesteps": (2, 100_000),
    "beta_start": (1e-9, 0.999),
    "beta_end": (1e-9, 0.999),
    "steps_offset": (0, 1000),
    "shift": (1e-3, 1000),
    "original_inference_steps": (1, 100_000),
    "timestep_scaling": (1e-3, 1e6),
}


def check_range(field: str, value: float, least: float, largest: float) -> None:
    """Raise ValueError naming the field unless a number is within its range; NaN never is."""
    if not least <= value <= largest:
        raise ValueError(f"{field} is {_short(value)}; expected {least:g} to {largest:g}")


def check_schedule(schedule: NoiseSchedule) -> None:
    """Raise ValueError naming the field that is out of range, or whose noise levels are no numbers."""
    for field, (least, largest) in _RANGES.items():
        check_range(f"schedule.{field}", getattr(schedule, field), least, largest)
    for field in ("steps_offset", "original_inference_steps"):
        if getattr(schedule, field) > schedule.num_train_timesteps:
            raise ValueError(
                f"schedule.{field} is {getattr(schedule, field)}, more than num_train_timesteps, "
                f"{schedule.num_train_timesteps}"
            )
    if schedule.prediction_type == "flow":
        return  # its levels come from the shift
    with np.errstate(all="ignore"):
        sigmas = schedule.training_sigmas()
    if not (np.isfinite(sigmas).all() and sigmas[0] > 0 and (np.diff(sigmas) >= 0).all()):
        raise ValueError(
            f"schedule.beta_start {schedule.beta_start:g} and beta_end {schedule.beta_end:g} over "
            f"{schedule.num_train_timesteps} timesteps leave noise levels that are zero, infinite or falling"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 30 else f"{text[:20]}... ({len(text)} characters)"
