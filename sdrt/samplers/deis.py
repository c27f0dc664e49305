"""DEIS: Zhang and Chen 2022, "Fast sampling of diffusion models with exponential integrator"."""

from __future__ import annotations

import numpy as np

from sdrt.samplers.integrals import combination, lagrange_integrals
from sdrt.samplers.table import Memory, Network, Step, Vector


def deis(network: Network, step: Step, x: Vector, memory: Memory, *, order: int) -> tuple[Vector, ...]:
    """https://arxiv.org/abs/2204.13902, rhoAB with polynomials in log rho: diffusers' DEISMultistepScheduler.

    With rho = sigma / alpha, x / alpha changes by the integral of epsilon d rho; epsilon is extrapolated by
    the polynomial in log rho through its last `order` values (fewer at first, and in the last steps of a
    short run). One evaluation per step.
    """
    here, there = step.here, step.there
    x_0 = network(x, here)
    if there.sigma == 0:  # the limit of order 1; of higher orders there is none
        return (x_0,)
    epsilon = here.epsilon(x, x_0)
    known = (epsilon, *memory)[: min(step.order_near_end(order), 1 + len(step.past))]
    # s = log(rho' / rho) runs from 0 to the end of the step, and d rho = rho e^s ds
    nodes = [here.lambda_ - point.lambda_ for point in (here, *step.past)][: len(known)]
    weights = lagrange_integrals(nodes, here.lambda_ - there.lambda_, np.exp)
    rho = here.sigma / here.alpha
    return there.alpha * (x / here.alpha + rho * combination(weights, known)), epsilon, *memory[:2]
