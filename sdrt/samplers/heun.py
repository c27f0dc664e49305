"""Samplers of two evaluations per step in sigma space, where x = x_0 + sigma * epsilon; as in k-diffusion.

The step to zero noise has no second evaluation: dx/dsigma has no value there.
"""

from __future__ import annotations

import numpy as np

from sdrt.samplers.euler import ancestral_step
from sdrt.samplers.table import Memory, Network, Step, Vector


def heun(network: Network, step: Step, x: Vector, memory: Memory) -> tuple[Vector, ...]:
    """Heun: Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 1.

    Order 2, two evaluations per step: the slope at the start and the one where Euler lands, averaged.
    """
    sigma, next_sigma = step.here.sigma, step.there.sigma
    d = (x - network(x, step.here)) / sigma
    x_2 = x + (next_sigma - sigma) * d
    if next_sigma == 0:
        return (x_2,)
    d_2 = (x_2 - network(x_2, step.there)) / next_sigma
    return (x + (next_sigma - sigma) * (d + d_2) / 2,)


def dpm_2(network: Network, step: Step, x: Vector, memory: Memory) -> tuple[Vector, ...]:
    """DPM2: k-diffusion's sample_dpm_2, after Karras et al. 2022, algorithm 2 and its appendix on midpoints.

    Order 2, two evaluations per step: the slope halfway in log sigma serves for the whole step.
    """
    return _midpoint(network, step, x, step.there.sigma)


def dpm_2_ancestral(
    network: Network, step: Step, x: Vector, memory: Memory, *, eta: float
) -> tuple[Vector, ...]:
    """DPM2 a: k-diffusion's sample_dpm_2_ancestral. DPM2 to less noise than wanted, then fresh noise.

    eta: share of the noise that is fresh. Order 2 without it, two evaluations per step.
    """
    down, up = ancestral_step(step.here.sigma, step.there.sigma, eta)
    (x_next,) = _midpoint(network, step, x, down)
    return (x_next + up * network.noise(),)


def dpmpp_2s_ancestral(
    network: Network, step: Step, x: Vector, memory: Memory, *, eta: float
) -> tuple[Vector, ...]:
    """DPM++ 2S a: k-diffusion's sample_dpmpp_2s_ancestral; diffusers has none of that name.

    Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 1 with r = 1/2, then fresh noise. eta: share
    of the noise that is fresh. Order 2 without it, two evaluations per step.
    """
    sigma = step.here.sigma
    down, up = ancestral_step(sigma, step.there.sigma, eta)
    x_0 = network(x, step.here)
    if down == 0:
        return (x_0,)
    middle = step.point(np.sqrt(sigma * down))
    x_2 = _exponential_step(x, x_0, sigma, middle.sigma)
    x_0_middle = network(x_2, middle)
    return (_exponential_step(x, x_0_middle, sigma, down) + up * network.noise(),)


def dpmpp_sde(network: Network, step: Step, x: Vector, memory: Memory, *, eta: float) -> tuple[Vector, ...]:
    """DPM++ SDE: k-diffusion's sample_dpmpp_sde, which diffusers has as DPMSolverSDEScheduler; r = 1/2.

    Both halves of a step see the same Brownian motion over sigma, so the noise of the whole step is made of
    that of the first half and of fresh noise. eta: share of the noise that is fresh. Order 2 without it, two
    evaluations per step.
    """
    sigma, next_sigma = step.here.sigma, step.there.sigma
    x_0 = network(x, step.here)
    if next_sigma == 0:
        return (x_0,)
    middle = step.point(np.sqrt(sigma * next_sigma))
    down, up = ancestral_step(sigma, middle.sigma, eta)
    noise = network.noise()
    x_2 = _exponential_step(x, x_0, sigma, down) + up * noise

    x_0_middle = network(x_2, middle)
    down, up = ancestral_step(sigma, next_sigma, eta)
    # how much of the way in sigma the first half is: (sigma - middle) / (sigma - sigma')
    first = np.sqrt(sigma) / (np.sqrt(sigma) + np.sqrt(next_sigma))
    noise = np.sqrt(first) * noise + np.sqrt(1.0 - first) * network.noise()
    return (_exponential_step(x, x_0_middle, sigma, down) + up * noise,)


def _midpoint(network: Network, step: Step, x: Vector, to: float) -> tuple[Vector, ...]:
    sigma = step.here.sigma
    d = (x - network(x, step.here)) / sigma
    if to == 0:
        return (x + (to - sigma) * d,)
    middle = step.point(np.sqrt(sigma * to))
    x_2 = x + (middle.sigma - sigma) * d
    d_2 = (x_2 - network(x_2, middle)) / middle.sigma
    return (x + (to - sigma) * d_2,)


def _exponential_step(x: Vector, x_0: Vector, sigma: float, to: float) -> Vector:
    """The way from sigma to `to` as if x_0 stayed as it is."""
    return (to / sigma) * x + (1.0 - to / sigma) * x_0
