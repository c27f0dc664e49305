"""Where a sampler puts its timesteps and noise levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdrt.errors import InputError
from sdrt.samplers.schedule import NoiseSchedule
from sdrt.samplers.table import Point

Array = NDArray[np.float64]

_KARRAS_RHO = 7.0


def timesteps(schedule: NoiseSchedule, count: int) -> Array:
    """`count` falling training timesteps: [count] float64, fractional with linspace spacing.

    Table 2 of Lin et al. 2023, https://arxiv.org/abs/2305.08891.
    Raises InputError if the first would be one the model was not trained on.
    """
    total = schedule.num_train_timesteps
    if schedule.timestep_spacing == "linspace":
        return np.linspace(0, total - 1, count)[::-1]
    if schedule.timestep_spacing == "trailing":
        return np.round(np.arange(total, 0, -total / count))[:count] - 1.0
    times = np.arange(count - 1, -1, -1.0) * (total // count) + schedule.steps_offset
    if times[0] > total - 1:  # 1000 leading timesteps with an offset of 1, say
        raise InputError(
            f"leading spacing starts {count} timesteps at {times[0]:.0f}, the model knows 0 to {total - 1}; "
            "take fewer steps or another spacing"
        )
    return times


def single(values: Array) -> Array:
    """Rounded to float32, as diffusers keeps timesteps and noise levels; nearly equal ones get subtracted."""
    return values.astype(np.float32).astype(np.float64)


def karras_sigmas(largest: float, smallest: float, count: int) -> Array:
    """`count` falling noise levels: [count] float64. Equation 5 of https://arxiv.org/abs/2206.00364."""
    ramp = np.linspace(0.0, 1.0, count)
    high, low = largest ** (1 / _KARRAS_RHO), smallest ** (1 / _KARRAS_RHO)
    return np.asarray((high + ramp * (low - high)) ** _KARRAS_RHO)


def timesteps_of(sigmas: Array, schedule: NoiseSchedule) -> Array:
    """The fractional training timesteps at which the noise is `sigmas`, linear in log sigma: [N] float64."""
    training = schedule.sigmas()
    return np.interp(np.log(sigmas), np.log(training), np.arange(len(training)))


def variance_preserving(timestep: float, sigma: float) -> Point:
    """The point of noise-to-signal ratio `sigma` with alpha^2 + sigma^2 = 1."""
    alpha = 1.0 / np.hypot(1.0, sigma)
    return Point(timestep=timestep, alpha=float(alpha), sigma=float(sigma * alpha))
