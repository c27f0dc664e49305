"""Where a run goes: noise levels and timesteps, in the four families of samplers.

The placing, down to where a number is rounded, is that of the diffusers scheduler, so that a seed gives its
picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from sdrt.errors import InputError
from sdrt.samplers.schedule import LEAST_ALPHA_CUMPROD, NoiseSchedule
from sdrt.samplers.schedules import Levels, Training
from sdrt.samplers.spacing import laid_sigmas, single, timesteps, timesteps_of
from sdrt.samplers.table import Path, Point

Array = NDArray[np.float64]
Space = Literal["sigma", "log_snr"]


# ---------------------------------------------------------------- training timesteps: DDIM, DDPM, PLMS


def training_path(schedule: NoiseSchedule, count: int) -> Path:
    """Steps between integer timesteps, each as long as num_train_timesteps // count.

    With linspace and trailing spacing the next step then does not start exactly where this one ended; that
    is what diffusers' DDIM and PNDM schedulers do.
    """
    point = _training_points(schedule)
    stride = schedule.num_train_timesteps // count
    starts = _whole_timesteps(schedule, count)
    return Path(legs=tuple((point(t), point(t - stride)) for t in starts), point=point, initial_scale=1.0)


def markov_path(schedule: NoiseSchedule, count: int) -> Path:
    """From each integer timestep to the next, and from the last to the picture."""
    point = _training_points(schedule)
    points = [point(t) for t in _whole_timesteps(schedule, count)]
    return Path(legs=_legs(points, _PICTURE), point=point, initial_scale=1.0)


def _whole_timesteps(schedule: NoiseSchedule, count: int) -> Array:
    # numpy.linspace(0, 999, 31)[15] is 499.4999..., the network was trained on integers: hence the rounding
    return np.round(timesteps(schedule, count))


def _training_points(schedule: NoiseSchedule) -> Callable[[float], Point]:
    """The noise level of an integer timestep; of one below zero, what set_alpha_to_one says."""
    alphas_cumprod = schedule.alphas_cumprod()
    if schedule.prediction_type == "epsilon" and schedule.rescale_betas_zero_snr:
        alphas_cumprod[-1] = LEAST_ALPHA_CUMPROD  # x_0 = (x - sigma * epsilon) / alpha has to exist
    final = 1.0 if schedule.set_alpha_to_one else alphas_cumprod[0]

    def point(timestep: float) -> Point:
        a = alphas_cumprod[int(timestep)] if timestep >= 0 else final
        return Point(timestep=float(timestep), alpha=float(np.sqrt(a)), sigma=float(np.sqrt(1.0 - a)))

    return point


# ---------------------------------------------------------------- distilled timesteps: LCM, TCD


def consistency_path(schedule: NoiseSchedule, count: int) -> Path:
    """`count` of the timesteps that a consistency model was distilled on, evenly picked from the top."""
    return _distilled_path(schedule, count, end=_PICTURE)


def trajectory_path(schedule: NoiseSchedule, count: int) -> Path:
    """As `consistency_path`, down to timestep 0, which holds a little noise."""
    return _distilled_path(schedule, count, end=_training_points(schedule)(0))


def _distilled_path(schedule: NoiseSchedule, count: int, *, end: Point) -> Path:
    known = schedule.original_inference_steps
    if count > known:
        raise InputError(f"steps is {count}; this sampler knows the {known} steps a model was distilled on")
    distilled = np.arange(known, 0, -1) * (schedule.num_train_timesteps // known) - 1
    picked = np.floor(np.linspace(0, known, count, endpoint=False)).astype(int)
    point = _training_points(schedule)
    return Path(legs=_legs([point(t) for t in distilled[picked]], end), point=point, initial_scale=1.0)


# ---------------------------------------------------------------- sigma space: Euler, Heun, LMS, DPM2, ...


def sigma_path(schedule: NoiseSchedule, count: int, *, whole_karras_timesteps: bool = False) -> Path:
    """Noise levels at the (fractional) timesteps of the spacing, or laid between the first and last of them.

    x = x_0 + sigma * epsilon, as in Karras et al. 2022, https://arxiv.org/abs/2206.00364.
    """
    training = schedule.training_sigmas()
    log_training = np.log(training.astype(np.float32)).astype(np.float64)

    def point(sigma: float) -> Point:
        return Point(timestep=float(timesteps_of(sigma, log_training)), alpha=1.0, sigma=float(sigma))

    times = single(timesteps(schedule, count))
    sigmas = np.interp(times, np.arange(len(training)), training)
    if schedule.sigma_schedule != "plain":
        sigmas = laid_sigmas(schedule.sigma_schedule, sigmas[0], sigmas[-1], count)
        times = timesteps_of(sigmas, log_training)
        if whole_karras_timesteps and schedule.sigma_schedule == "karras":
            times = np.round(times)
    sigmas = single(sigmas)
    points = [Point(timestep=t, alpha=1.0, sigma=s) for t, s in zip(times, sigmas, strict=True)]
    end = Point(timestep=0.0, alpha=1.0, sigma=_final_sigma(schedule, training))
    # leading spacing starts below the largest training noise, where the latents still hold some signal
    scale = np.hypot(sigmas[0], 1.0) if schedule.timestep_spacing == "leading" else sigmas[0]
    return Path(legs=_legs(points, end), point=point, initial_scale=float(scale))


# ---------------------------------------------------------------- log-SNR space: DPM-Solver++, UniPC, DEIS


def solver_path(schedule: NoiseSchedule, count: int, *, truncated_cosine_timesteps: bool = False) -> Path:
    """Variance-preserving points at integer timesteps, or laid between the ends of the training noise.

    The spacing divides the schedule for the point of zero noise as well, so leading and linspace place
    count + 1 timesteps and leave the last out.
    """
    if schedule.prediction_type == "flow":
        alphas = np.linspace(1.0, 1.0 / schedule.num_train_timesteps, count + 1)
        return _flow_solver_path(schedule, _shifted((1.0 - alphas)[:0:-1], schedule.shift))
    training = schedule.training_sigmas()
    if schedule.sigma_schedule == "plain":
        trailing = schedule.timestep_spacing == "trailing"
        times = np.round(timesteps(schedule, count if trailing else count + 1)[:count])
        sigmas = training[times.astype(int)]
    else:
        sigmas = laid_sigmas(schedule.sigma_schedule, training[-1], training[0], count)
        times = timesteps_of(sigmas, np.log(training.astype(np.float32)).astype(np.float64))
        cosine = schedule.beta_schedule == "squaredcos_cap_v2"
        rounded = schedule.sigma_schedule == "karras" and not (cosine and truncated_cosine_timesteps)
        times = np.round(times) if rounded else np.trunc(times)
    sigmas = single(sigmas)
    points = [_variance_preserving(t, s) for t, s in zip(times, sigmas, strict=True)]
    end = _variance_preserving(0.0, _final_sigma(schedule, training))
    return Path(legs=_legs(points, end), point=_no_point, initial_scale=1.0)


def unipc_path(schedule: NoiseSchedule, count: int) -> Path:
    """As `solver_path`; a flow model starts from noise alone, less a millionth for log(alpha)'s sake."""
    if schedule.prediction_type != "flow":
        return solver_path(schedule, count)
    sigmas = np.linspace(1.0, 1.0 / schedule.num_train_timesteps, count + 1)[:-1]
    return _flow_solver_path(schedule, np.minimum(_shifted(sigmas, schedule.shift), 1.0 - 1e-6))


def deis_path(schedule: NoiseSchedule, count: int) -> Path:
    """As `solver_path`, ending at the least noise: DEIS steps in the log of it.

    Laid noise levels, and those of flow models, end at their last one, so that the last step stands still;
    diffusers has it so.
    """
    path = solver_path(msgspec.structs.replace(schedule, final_sigmas_type="sigma_min"), count)
    if schedule.sigma_schedule == "plain" and schedule.prediction_type != "flow":
        return path
    last, _ = path.legs[-1]
    return replace(path, legs=(*path.legs[:-1], (last, last)))


def singlestep_path(schedule: NoiseSchedule, count: int) -> Path:
    """As `solver_path`, with linspace spacing whatever the schedule says."""
    return solver_path(msgspec.structs.replace(schedule, timestep_spacing="linspace"), count)


# ---------------------------------------------------------------- levels by name or number, as k-diffusion's


def level_path(schedule: NoiseSchedule, levels: Levels, space: Space) -> Path:
    """Along a list of noise levels, in sigma space or at the same signal-to-noise ratios with
    alpha^2 + sigma^2 = 1; multistep solvers keep their order to the end, as k-diffusion's do.
    """
    training = Training.of(schedule, comfyui=levels.comfyui)

    def point(sigma: float) -> Point:
        timestep = levels.timestep(training, sigma) if sigma > 0 else 0.0
        if space == "log_snr":
            return _variance_preserving(timestep, sigma)
        return Point(timestep=timestep, alpha=1.0, sigma=float(sigma))

    points = [point(sigma) for sigma in levels.sigmas]
    scale = levels.initial_scale(training)
    if space == "log_snr":
        scale *= points[0].alpha
    return Path(legs=tuple(pairwise(points)), point=point, initial_scale=scale, tapers=False)


def _variance_preserving(timestep: float, sigma: float) -> Point:
    """The point of noise-to-signal ratio `sigma` with alpha^2 + sigma^2 = 1."""
    alpha = 1.0 / np.hypot(1.0, sigma)
    return Point(timestep=float(timestep), alpha=float(alpha), sigma=float(sigma * alpha))


# ---------------------------------------------------------------- flow matching


def flow_path(schedule: NoiseSchedule, count: int) -> Path:
    """Levels s of x = (1 - s) x_0 + s epsilon, evenly spread and then shifted; the timestep is 1000 s.

    The least training level was shifted once before: diffusers' FlowMatchEulerDiscreteScheduler does so.
    """
    total = schedule.num_train_timesteps
    least = float(_shifted(np.array(1.0 / total), schedule.shift))
    sigmas = _shifted(np.linspace(1.0, least, count), schedule.shift)
    if schedule.sigma_schedule != "plain":
        sigmas = laid_sigmas(schedule.sigma_schedule, sigmas[0], sigmas[-1], count)
    sigmas = single(sigmas)
    points = [Point(timestep=float(s * total), alpha=float(1.0 - s), sigma=float(s)) for s in sigmas]
    return Path(legs=_legs(points, _PICTURE), point=_no_point, initial_scale=1.0)


def _flow_solver_path(schedule: NoiseSchedule, sigmas: Array) -> Path:
    if schedule.sigma_schedule != "plain":
        raise InputError(
            f"{schedule.sigma_schedule} noise levels of a flow model need flow_euler; take plain ones"
        )
    times = np.trunc(sigmas * schedule.num_train_timesteps)
    points = [
        Point(timestep=float(t), alpha=float(1.0 - s), sigma=float(s))
        for t, s in zip(times, single(sigmas), strict=True)
    ]
    return Path(legs=_legs(points, _PICTURE), point=_no_point, initial_scale=1.0)


def _shifted(sigmas: Array, shift: float) -> Array:
    return np.asarray(shift * sigmas / (1.0 + (shift - 1.0) * sigmas))


def _final_sigma(schedule: NoiseSchedule, training: Array) -> float:
    return 0.0 if schedule.final_sigmas_type == "zero" else float(training[0])


def _legs(points: list[Point], end: Point) -> tuple[tuple[Point, Point], ...]:
    return tuple(pairwise([*points, end]))


def _no_point(_: float) -> Point:
    raise AssertionError("a multistep sampler evaluates the network at the points of its path only")


_PICTURE = Point(timestep=0.0, alpha=1.0, sigma=0.0)
