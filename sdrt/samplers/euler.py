"""Samplers of one evaluation per step in sigma space, where x = x_0 + sigma * epsilon; as in k-diffusion."""

from __future__ import annotations

import numpy as np

from sdrt.samplers.integrals import combination, lagrange_integrals
from sdrt.samplers.table import Memory, Network, Step, Vector


def euler(network: Network, step: Step, x: Vector, memory: Memory) -> tuple[Vector, ...]:
    """Euler: Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 2 without churn.

    x' = x + (sigma' - sigma) dx/dsigma. Order 1, one evaluation per step.
    """
    sigma, next_sigma = step.here.sigma, step.there.sigma
    d = (x - network(x, step.here)) / sigma
    return (x + (next_sigma - sigma) * d,)


def euler_ancestral(
    network: Network, step: Step, x: Vector, memory: Memory, *, eta: float
) -> tuple[Vector, ...]:
    """Euler a: k-diffusion's sample_euler_ancestral. Euler to less noise than wanted, then fresh noise.

    eta: share of the noise that is fresh. Order 1, one evaluation per step.
    """
    sigma = step.here.sigma
    down, up = ancestral_step(sigma, step.there.sigma, eta)
    d = (x - network(x, step.here)) / sigma
    return (x + (down - sigma) * d + up * network.noise(),)


def flow_euler(network: Network, step: Step, x: Vector, memory: Memory) -> tuple[Vector, ...]:
    """Euler along the velocity of a flow-matching model, Lipman et al. 2022, https://arxiv.org/abs/2210.02747.

    x' = x + (s' - s) v. Order 1, one evaluation per step.
    """
    return (x + (step.there.sigma - step.here.sigma) * network.prediction(x, step.here),)


def lms(network: Network, step: Step, x: Vector, memory: Memory, *, order: int) -> tuple[Vector, ...]:
    """LMS: k-diffusion's sample_lms, Adams and Bashforth's linear multistep method for uneven steps.

    dx/dsigma is extrapolated by the polynomial through its last `order` values, fewer at first.
    One evaluation per step.
    """
    sigma = step.here.sigma
    d = (x - network(x, step.here)) / sigma
    slopes = (d, *memory)[: min(order, 1 + len(step.past))]
    nodes = [point.sigma - sigma for point in (step.here, *step.past)]
    weights = lagrange_integrals(nodes[: len(slopes)], step.there.sigma - sigma)
    return x + combination(weights, slopes), d, *memory[:2]


def ancestral_step(sigma: float, next_sigma: float, eta: float) -> tuple[float, float]:
    """To which noise level to go, and how much fresh noise then leads to `next_sigma`.

    The fresh part has the variance of DDPM's posterior, times eta^2; k-diffusion's get_ancestral_step.
    """
    fresh = eta * next_sigma / sigma * np.sqrt(sigma**2 - next_sigma**2)
    up = min(next_sigma, float(fresh))
    return float(np.sqrt(next_sigma**2 - up**2)), up
