"""Noise levels by the names that AUTOMATIC1111 and ComfyUI give them: `normal`, `comfyui:beta`, `simple` ...

Both programs run k-diffusion's samplers over a list of noise levels that ends in 0. Where they lay the levels
differently, the plain name is AUTOMATIC1111's and the one with `comfyui:` is ComfyUI's. With `comfyui:` the
network is also told whole timesteps, and pure noise is scaled by sqrt(1 + sigma^2), as ComfyUI does both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sdrt.errors import InputError, UnknownNameError
from sdrt.samplers.published_levels import ALIGN_YOUR_STEPS, ALIGN_YOUR_STEPS_FULL, GITS_COMFYUI, GITS_FORGE
from sdrt.samplers.schedule import NoiseSchedule
from sdrt.samplers.spacing import beta_quantiles, laid_sigmas, timesteps_of

Array = NDArray[np.float64]
COMFYUI = "comfyui:"
Model = Literal["sd1", "sdxl"]  # of those that levels were published for
_SHAPE = 0.6  # of the beta distribution
_LINEAR_NOISE = 0.025  # the part of the noise that linear_quadratic removes in equal steps
_CLOSE = 1e-5  # ComfyUI's tolerance for "the model's largest noise"


@dataclass(frozen=True)
class Training:
    """The noise levels that a model was trained with, by timestep, rising."""

    sigmas: Array
    log_sigmas: Array

    @classmethod
    def of(cls, schedule: NoiseSchedule, *, comfyui: bool) -> Training:
        """Of a model's schedule, in the precision that the programs compute it in."""
        sigmas = schedule.unrounded_training_sigmas(of_float32=not comfyui)
        return cls(sigmas, np.log(sigmas))

    def at(self, timesteps: Array) -> Array:
        """The noise at fractional timesteps, linear in its logarithm."""
        return np.asarray(np.exp(np.interp(timesteps, np.arange(len(self.sigmas)), self.log_sigmas)))

    @property
    def last(self) -> int:
        """The noisiest timestep."""
        return len(self.sigmas) - 1

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the most noise."""
        return float(self.sigmas[0]), float(self.sigmas[-1])


Rule = Callable[[Training, int, Model], Array]  # n levels or so, falling, without the final 0


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Where a run goes: sigmas, falling, the last where it ends, mostly 0.

    comfyui: whole timesteps, as ComfyUI tells the network. unit_variance: pure noise is scaled by
    sqrt(1 + sigma^2), as pictures with noise are, rather than by sigma.
    """

    sigmas: tuple[float, ...]
    comfyui: bool = False
    unit_variance: bool = False

    def timestep(self, training: Training, sigma: float) -> float:
        """What the network is told at a noise level."""
        if self.comfyui:
            # in float32, which decides where a level lies halfway between two timesteps
            known, asked = training.log_sigmas.astype(np.float32), np.log(np.float32(sigma))
            return float(np.argmin(np.abs(asked - known)))
        return float(timesteps_of(sigma, training.log_sigmas))

    def initial_scale(self, training: Training) -> float:
        """What unit noise is scaled by at the first level, in sigma space."""
        first = self.sigmas[0]
        most = training.ends[1]
        full = first > most or math.isclose(first, most, rel_tol=_CLOSE)
        return math.hypot(first, 1.0) if self.unit_variance and full else first


def named_levels(name: str, training: Training, steps: int, model: Model) -> Levels:
    """The noise levels of a name for so many steps; some rules give one more or fewer.

    Raises UnknownNameError, or InputError for a step count that the rule does not have.
    """
    name = schedule_name(name)
    comfyui = name.startswith(COMFYUI)
    own = name.removeprefix(COMFYUI)
    rule = _COMFYUI.get(own, _RULES.get(own)) if comfyui else _RULES[own]
    assert rule is not None
    sigmas = rule(training, steps, model).astype(np.float32)
    if own not in _TO_THE_END or comfyui:
        sigmas = np.append(sigmas, np.float32(0.0))
    return Levels(
        sigmas=tuple(float(one) for one in sigmas),
        comfyui=comfyui,
        unit_variance=comfyui or own == "time_uniform",
    )


def given_levels(sigmas: Sequence[float]) -> Levels:
    """Levels that were listed one by one; a final 0 is added where it is missing.

    Raises InputError unless they fall from a finite number to 0.
    """
    levels = [float(one) for one in sigmas]
    if levels and levels[-1] > 0:
        levels.append(0.0)
    falling = all(before > after for before, after in pairwise(levels))
    if len(levels) < 2 or not falling or not all(map(math.isfinite, levels)) or levels[-1] != 0:
        raise InputError(
            f"sigmas are {', '.join(f'{one:g}' for one in sigmas)}; expected falling numbers down to 0, "
            "such as 14.6,4.9,1.6,0.5,0"
        )
    return Levels(sigmas=tuple(levels))


def without_penultimate(levels: Levels) -> Levels:
    """The levels without the last before the end: of n + 1 laid for n steps."""
    return replace(levels, sigmas=(*levels.sigmas[:-2], levels.sigmas[-1]))


def schedule_name(name: str) -> str:
    """The name as SCHEDULES has it, of any spelling: `SGM Uniform`, `comfyui:sgm_uniform`.

    Raises UnknownNameError with the nearest names.
    """
    program, colon, rest = name.lower().rpartition(":")
    key = "".join(letter for letter in rest if letter.isalnum())
    found = _BY_SPELLING.get(key)
    if found is None or (colon and program.strip() != "comfyui"):
        raise UnknownNameError("schedule", name, SCHEDULES)
    return COMFYUI + found if colon else found


def _normal(training: Training, steps: int, model: Model) -> Array:
    return training.at(np.linspace(training.last, 0, steps))


def _time_uniform(training: Training, steps: int, model: Model) -> Array:
    """UniPC's own: even timesteps, with log(alpha) linear between whole ones; ends at the least noise."""
    log_alphas = -0.5 * np.log1p(training.sigmas**2)
    between = np.interp(np.linspace(training.last, 0, steps + 1), np.arange(len(log_alphas)), log_alphas)
    return np.asarray(np.sqrt(np.expm1(-2.0 * between)))


def _sgm_uniform(training: Training, steps: int, model: Model) -> Array:
    return training.at(np.linspace(training.last, 0, steps + 1)[:-1])


def _simple(training: Training, steps: int, model: Model) -> Array:
    """Training levels at an even stride, from the last down."""
    stride = len(training.sigmas) / steps
    return training.sigmas[[-(1 + int(i * stride)) for i in range(steps)]]


def _ddim_uniform(training: Training, steps: int, model: Model) -> Array:
    """Training levels at a whole stride from the second up, which for 30 steps are 31."""
    return training.sigmas[1 :: max(len(training.sigmas) // steps, 1)][::-1]


def _between_ends(rule: Literal["karras", "exponential", "beta"]) -> Rule:
    def levels(training: Training, steps: int, model: Model) -> Array:
        least, most = training.ends
        return laid_sigmas(rule, most, least, steps)

    return levels


def _beta_timesteps(training: Training, steps: int, model: Model) -> Array:
    """Quantiles of Beta(0.6, 0.6) over the timesteps, https://arxiv.org/abs/2407.12173, each one once."""
    quantiles = beta_quantiles(1.0 - np.linspace(0.0, 1.0, steps, endpoint=False), _SHAPE)
    whole = np.rint(quantiles * training.last).astype(int)
    return training.sigmas[list(dict.fromkeys(whole.tolist()))]


def _kl_optimal(points: int) -> Rule:
    """Even in arctan(sigma), https://arxiv.org/abs/2404.14507, with so many points more than steps."""

    def levels(training: Training, steps: int, model: Model) -> Array:
        least, most = training.ends
        ramp = np.arange(steps + points) / max(steps + points - 1, 1)
        return np.asarray(np.tan(ramp * np.arctan(least) + (1.0 - ramp) * np.arctan(most)))

    return levels


def _linear_quadratic(training: Training, steps: int, model: Model) -> Array:
    """Half of the steps remove a fortieth of the noise in equal parts, the others ever more; Mochi's."""
    linear = steps // 2
    if linear == 0:
        return np.array([training.ends[1]])
    quadratic = steps - linear
    i = np.arange(steps)
    left = linear - _LINEAR_NOISE * steps
    a = left / (linear * quadratic**2)
    b = _LINEAR_NOISE / linear - 2.0 * left / quadratic**2
    removed = np.where(i < linear, i * _LINEAR_NOISE / linear, a * i**2 + b * i + a * linear**2)
    return np.asarray((1.0 - removed) * training.ends[1])


def _align_your_steps(training: Training, steps: int, model: Model) -> Array:
    return _stretched(ALIGN_YOUR_STEPS[model], steps)


def _align_your_steps_to_zero(training: Training, steps: int, model: Model) -> Array:
    """The last of the published levels makes room for 0."""
    return _stretched(ALIGN_YOUR_STEPS_FULL[model], steps + 1)[:-1]


def _gits_forge(training: Training, steps: int, model: Model) -> Array:
    return _stretched(GITS_FORGE[model], steps)


def _gits(training: Training, steps: int, model: Model) -> Array:
    """The published levels of each step count from 2 to 20, at the coefficient 1.2 that ComfyUI takes."""
    if steps < 2:
        raise InputError("the schedule gits is for two steps or more; take another one")
    return _stretched(GITS_COMFYUI[min(steps, max(GITS_COMFYUI))], steps + 1)[:-1]


def _stretched(levels: Sequence[float], count: int) -> Array:
    """So many levels, read off the logarithms of the published ones."""
    if count == len(levels):
        return np.array(levels)
    at = np.linspace(0.0, 1.0, count)
    rising = np.exp(np.interp(at, np.linspace(0.0, 1.0, len(levels)), np.log(levels[::-1])))
    return np.asarray(rising[::-1])


# AUTOMATIC1111's, and Forge's where that has more; linear_quadratic is ComfyUI's alone
_RULES: Mapping[str, Rule] = {
    "normal": _normal,
    "karras": _between_ends("karras"),
    "exponential": _between_ends("exponential"),
    "polyexponential": _between_ends("exponential"),  # with the exponent 1, which is everybody's default
    "beta": _between_ends("beta"),
    "simple": _simple,
    "sgm_uniform": _sgm_uniform,
    "time_uniform": _time_uniform,
    "ddim_uniform": _ddim_uniform,
    "kl_optimal": _kl_optimal(1),
    "linear_quadratic": _linear_quadratic,
    "align_your_steps": _align_your_steps,
    "gits": _gits_forge,
}
_TO_THE_END = {"kl_optimal", "time_uniform"}  # AUTOMATIC1111's end at the least noise
_COMFYUI: Mapping[str, Rule] = {
    "beta": _beta_timesteps,
    "kl_optimal": _kl_optimal(0),
    "align_your_steps": _align_your_steps_to_zero,
    "gits": _gits,
}
SCHEDULES = (*_RULES, *(COMFYUI + name for name in _RULES))
_OTHER_SPELLINGS = {
    "uniform": "normal",
    "ddim": "ddim_uniform",
    "ays": "align_your_steps",
    "alignyourstepsgits": "gits",
}
_BY_SPELLING = {name.replace("_", ""): name for name in _RULES} | _OTHER_SPELLINGS
