"""DPM-Solver++: Lu et al. 2022, https://arxiv.org/abs/2211.01095."""

from __future__ import annotations

import numpy as np

from sdrt.samplers import spacing
from sdrt.samplers.schedule import NoiseSchedule
from sdrt.samplers.table import SamplerTable, Step, Vector, compile_steps, steps_between


def dpmpp_2m(step: Step, x: Vector, m: Vector, z: Vector, memory: tuple[Vector, ...]) -> tuple[Vector, ...]:
    """DPM++ 2M: algorithm 2, multistep, on the data prediction. Order 2, one evaluation per step.

    The first step and the one to zero noise are of order 1.
    """
    before, here, there = step.before, step.here, step.there
    x_0 = step.denoised(x, m)
    h = there.lambda_ - here.lambda_
    if before is None or step.last:
        slope = x_0
    else:
        previous_x_0 = memory[0]
        r = (here.lambda_ - before.lambda_) / h
        slope = x_0 + (x_0 - previous_x_0) / (2.0 * r)
    return (there.sigma / here.sigma) * x - there.alpha * np.expm1(-h) * slope, x_0


def compile_dpmpp_2m(schedule: NoiseSchedule, count: int, *, karras: bool) -> SamplerTable:
    """Variance-preserving points at integer timesteps, placed as by diffusers' DPMSolverMultistepScheduler.

    Its spacing divides the schedule for the point of zero noise as well, so leading and linspace place
    count + 1 timesteps and leave the last out.
    """
    training = schedule.sigmas()
    if karras:
        sigmas = spacing.karras_sigmas(training[-1], training[0], count)
        times = np.round(spacing.timesteps_of(sigmas, schedule))
    else:
        trailing = schedule.timestep_spacing == "trailing"
        times = spacing.timesteps(schedule, count if trailing else count + 1)[:count]
        times = np.round(times)
        sigmas = np.interp(times, np.arange(len(training)), training)
    sigmas = spacing.single(sigmas)
    points = [spacing.variance_preserving(t, s) for t, s in zip(times, sigmas, strict=True)]
    points.append(spacing.variance_preserving(0.0, 0.0))
    return compile_steps(steps_between(points, schedule.prediction_type), dpmpp_2m, initial_scale=1.0)
