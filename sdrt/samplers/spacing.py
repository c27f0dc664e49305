"""Where timesteps and noise levels lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdrt.errors import InputError
from sdrt.samplers.schedule import NoiseSchedule, SigmaSchedule

Array = NDArray[np.float64]

_KARRAS_RHO = 7.0
_BETA_SHAPE = 0.6


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


def laid_sigmas(rule: SigmaSchedule, largest: float, smallest: float, count: int) -> Array:
    """`count` falling noise levels between two ends: [count] float64.

    karras: equation 5 of https://arxiv.org/abs/2206.00364; exponential: even in the logarithm;
    beta: quantiles of Beta(0.6, 0.6), https://arxiv.org/abs/2407.12173.
    """
    ramp = np.linspace(0.0, 1.0, count)
    if rule == "karras":
        high, low = largest ** (1 / _KARRAS_RHO), smallest ** (1 / _KARRAS_RHO)
        return np.asarray((high + ramp * (low - high)) ** _KARRAS_RHO)
    if rule == "exponential":
        return np.exp(np.linspace(np.log(largest), np.log(smallest), count))
    return smallest + beta_quantiles(1.0 - ramp, _BETA_SHAPE) * (largest - smallest)


def beta_quantiles(p: Array, a: float) -> Array:
    """Quantiles of the symmetric distribution Beta(a, a), 0 < a < 1: the shape of `p`, float64.

    Newton's method on the power series of the regularized incomplete beta function, in x^a, in which it is
    nearly straight (DLMF 8.17.7, with the lower half mirrored into the upper).
    """
    lower = np.minimum(p, 1.0 - p)
    # coefficients of sum_n (1 - a)_n / (n! (a + n)) x^n, whose terms fall by half at x = 1/2
    n = np.arange(60)
    series = np.concatenate([[1.0], np.cumprod((n[1:] - a) / n[1:])]) / (a + n)
    whole = 2.0 * 0.5**a * np.polynomial.polynomial.polyval(0.5, series)  # B(a, a)
    y = lower * whole * a  # x^a to first order
    for _ in range(8):
        x = y ** (1.0 / a)
        error = y * np.polynomial.polynomial.polyval(x, series) - lower * whole
        y = y - error * a * (1.0 - x) ** (1.0 - a)
    x = y ** (1.0 / a)
    return np.asarray(np.where(p < 0.5, x, 1.0 - x))


def timesteps_of(sigmas: Array | float, log_training: Array) -> Array:
    """The fractional training timesteps at which the noise is `sigmas`, linear in log sigma."""
    return np.interp(np.log(sigmas), log_training, np.arange(len(log_training)))


def single(values: Array) -> Array:
    """Rounded to float32, as diffusers keeps timesteps and noise levels; nearly equal ones get subtracted."""
    return values.astype(np.float32).astype(np.float64)
