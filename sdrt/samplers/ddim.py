"""DDIM: Song, Meng and Ermon 2020, "Denoising diffusion implicit models", https://arxiv.org/abs/2010.02502."""

from __future__ import annotations

import numpy as np

from sdrt.samplers import spacing
from sdrt.samplers.schedule import NoiseSchedule
from sdrt.samplers.table import Point, SamplerTable, Step, Vector, compile_steps


def ddim(step: Step, x: Vector, m: Vector, z: Vector, memory: tuple[Vector, ...]) -> tuple[Vector, ...]:
    """Equation 12 with eta = 0. Order 1, one evaluation per step."""
    here, there = step.here, step.there
    x_0 = step.denoised(x, m)
    epsilon = (x - here.alpha * x_0) / here.sigma
    return (there.alpha * x_0 + there.sigma * epsilon,)


def compile_ddim(schedule: NoiseSchedule, count: int) -> SamplerTable:
    """Steps between integer timesteps, each as long as num_train_timesteps // count.

    With linspace and trailing spacing the next step then does not start exactly where this one ended; that
    is what diffusers' DDIMScheduler does, and a seed is to give its picture.
    """
    alphas_cumprod = schedule.alphas_cumprod()
    # numpy.linspace(0, 999, 31)[15] is 499.4999..., the network was trained on integers: hence the rounding
    starts = [int(t) for t in np.round(spacing.timesteps(schedule, count))]
    stride = schedule.num_train_timesteps // count

    def point(t: int) -> Point:
        final = 1.0 if schedule.set_alpha_to_one else alphas_cumprod[0]
        a = alphas_cumprod[t] if t >= 0 else final
        return Point(timestep=float(t), alpha=float(np.sqrt(a)), sigma=float(np.sqrt(1.0 - a)))

    steps = [
        Step(
            here=point(t),
            there=point(t - stride),
            before=point(starts[k - 1]) if k > 0 else None,
            last=k == count - 1,
            prediction=schedule.prediction_type,
        )
        for k, t in enumerate(starts)
    ]
    return compile_steps(steps, ddim, initial_scale=1.0)
