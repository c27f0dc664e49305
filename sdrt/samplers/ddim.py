"""DDIM and DDPM: samplers between training timesteps."""

from __future__ import annotations

import numpy as np

from sdrt.samplers.table import Memory, Network, Point, Step, Vector


def ddim(network: Network, step: Step, x: Vector, memory: Memory, *, eta: float) -> tuple[Vector, ...]:
    """DDIM: Song, Meng and Ermon 2020, https://arxiv.org/abs/2010.02502, equation 12.

    eta: share of DDPM's noise, 0 for none. Order 1, one evaluation per step.
    """
    here, there = step.here, step.there
    x_0 = network(x, here)
    noise = eta * posterior_deviation(here, there)
    direction = np.sqrt(there.sigma**2 - noise**2) * here.epsilon(x, x_0)
    return (there.alpha * x_0 + direction + noise * network.noise(),)


def ddpm(network: Network, step: Step, x: Vector, memory: Memory) -> tuple[Vector, ...]:
    """DDPM: Ho, Jain and Abbeel 2020, https://arxiv.org/abs/2006.11239, equations 6 and 7.

    Order 1, one evaluation per step. The variance is the smaller one, of the posterior.
    """
    here, there = step.here, step.there
    x_0 = network(x, here)
    alpha = here.alpha / there.alpha
    mean = there.alpha * (1.0 - alpha**2) * x_0 + alpha * there.sigma**2 * x
    return (mean / here.sigma**2 + posterior_deviation(here, there) * network.noise(),)


def posterior_deviation(here: Point, there: Point) -> float:
    """Standard deviation of x at `there`, given x at `here` and the picture."""
    return float(there.sigma / here.sigma * np.sqrt(1.0 - (here.alpha / there.alpha) ** 2))
