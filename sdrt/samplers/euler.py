"""Euler: Karras et al. 2022, "Elucidating the design space of diffusion-based generative models", algorithm 2
without churn, https://arxiv.org/abs/2206.00364. In sigma space, as in k-diffusion."""

from __future__ import annotations

import numpy as np

from sdrt.samplers import spacing
from sdrt.samplers.schedule import NoiseSchedule
from sdrt.samplers.table import Point, SamplerTable, Step, Vector, compile_steps, steps_between


def euler(step: Step, x: Vector, m: Vector, z: Vector, memory: tuple[Vector, ...]) -> tuple[Vector, ...]:
    """x' = x + (sigma' - sigma) dx/dsigma. Order 1, one evaluation per step."""
    sigma, next_sigma = step.here.sigma, step.there.sigma
    d = (x - step.denoised(x, m)) / sigma
    return (x + (next_sigma - sigma) * d,)


def compile_euler(schedule: NoiseSchedule, count: int, *, karras: bool) -> SamplerTable:
    """Noise levels at the (fractional) timesteps of the spacing, or Karras's between the same ends."""
    training = schedule.sigmas()
    times = spacing.single(spacing.timesteps(schedule, count))
    sigmas = np.interp(times, np.arange(len(training)), training)
    if karras:
        sigmas = spacing.karras_sigmas(sigmas[0], sigmas[-1], count)
        times = spacing.timesteps_of(sigmas, schedule)
    sigmas = spacing.single(sigmas)
    points = [Point(timestep=t, alpha=1.0, sigma=s) for t, s in zip(times, sigmas, strict=True)]
    points.append(Point(timestep=0.0, alpha=1.0, sigma=0.0))
    # leading spacing starts below the largest training noise, where the latents still hold some signal
    scale = np.hypot(sigmas[0], 1.0) if schedule.timestep_spacing == "leading" else sigmas[0]
    return compile_steps(steps_between(points, schedule.prediction_type), euler, initial_scale=float(scale))
