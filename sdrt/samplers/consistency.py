"""LCM and TCD: samplers of distilled models, which jump to the picture and back to some noise."""

from __future__ import annotations

import numpy as np

from sdrt.samplers.table import Memory, Network, Step, Vector

_SIGMA_DATA = 0.5


def lcm(
    network: Network, step: Step, x: Vector, memory: Memory, *, timestep_scaling: float
) -> tuple[Vector, ...]:
    """LCM: Luo et al. 2023, "Latent consistency models", https://arxiv.org/abs/2310.04378, algorithm 3.

    The consistency function, c_skip x + c_out x_0, and fresh noise on top of it. No order: it does not
    follow an ODE. One evaluation per step.
    """
    there, t = step.there, step.here.timestep * timestep_scaling
    c_skip = _SIGMA_DATA**2 / (t**2 + _SIGMA_DATA**2)
    c_out = t / np.hypot(t, _SIGMA_DATA)
    denoised = c_out * network(x, step.here) + c_skip * x
    return (there.alpha * denoised + there.sigma * network.noise(),)


def tcd(network: Network, step: Step, x: Vector, memory: Memory, *, eta: float) -> tuple[Vector, ...]:
    """TCD: Zheng et al. 2024, "Trajectory consistency distillation", https://arxiv.org/abs/2402.19159.

    DDIM to a timestep below the wanted one, then noise up to it. eta, the paper's gamma: how far below, 0 is
    DDIM and 1 is all the way. Order 1 with eta = 0, one evaluation per step.
    """
    here, there = step.here, step.there
    # in float32 as in diffusers: the product is cut to a whole timestep
    below = step.point(float(np.floor(np.float32(1.0 - eta) * np.float32(there.timestep))))
    x_0 = network(x, here)
    x_below = below.alpha * x_0 + below.sigma * here.epsilon(x, x_0)
    alpha = there.alpha / below.alpha
    return (alpha * x_below + np.sqrt(1.0 - alpha**2) * network.noise(),)
