"""Every deterministic sampler converges with its order, on an ODE whose solution is known.

Pictures drawn from a Gaussian of deviation S have the denoiser alpha S^2 x / (alpha^2 S^2 + sigma^2), and the
probability flow keeps x / sqrt(alpha^2 S^2 + sigma^2). Stochastic samplers run without their noise (eta = 0).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sdrt.samplers import SAMPLERS, SLOTS, NoiseSchedule
from sdrt.samplers.table import Path, Point, steps_along

S = 1.7
FROM, TO = -1.4, 1.2  # lambda
BEYOND = 3
SPACE = {"sigma_path": "sigma", "flow_path": "flow"}


class GaussianPictures:
    """The network, answered: what step functions get instead of unknowns."""

    def __init__(self, prediction: str) -> None:
        self._prediction = prediction

    def __call__(self, x, at):
        return at.alpha * S**2 * x / (at.alpha**2 * S**2 + at.sigma**2)

    def prediction(self, x, at):
        x_0 = self(x, at)
        epsilon = at.epsilon(x, x_0)
        return epsilon - x_0 if self._prediction == "flow" else epsilon

    def noise(self):
        return 0.0


def path(space: str, count: int) -> Path:
    """Even steps in lambda, between noise levels where a step function has no special case.

    BEYOND steps too many: the last ones of UniPC are of lower order.
    """

    def at(time: float) -> Point:
        lambda_ = TO + (FROM - TO) * (time - BEYOND) / count
        ratio = np.exp(-lambda_)
        alpha = {"sigma": 1.0, "flow": 1.0 / (1.0 + ratio), "variance": 1.0 / np.hypot(1.0, ratio)}[space]
        return Point(timestep=time, alpha=float(alpha), sigma=float(alpha * ratio))

    def of_sigma(sigma: float) -> Point:
        return Point(timestep=0.0, alpha=1.0, sigma=float(sigma))

    points = [at(float(time)) for time in range(count + BEYOND, -1, -1)]
    legs = tuple(pairwise(points))
    return Path(legs=legs, point=of_sigma if space == "sigma" else at, initial_scale=1.0)


def error(name: str, count: int) -> float:
    sampler = SAMPLERS[name]
    prediction = sampler.predictions[0]
    eta = None if sampler.eta is None else 0.0
    step_function = sampler.step_function(NoiseSchedule(prediction_type=prediction), eta)
    family = getattr(sampler.path, "func", sampler.path).__name__
    run = path(SPACE.get(family, "variance"), count)

    def exact(point: Point) -> float:
        return float(np.sqrt(point.alpha**2 * S**2 + point.sigma**2))

    x, memory = exact(run.legs[0][0]), (0.0,) * (SLOTS - 1)
    for step in list(steps_along(run, prediction))[:count]:
        x, *remembered = step_function(GaussianPictures(prediction), step, x, memory)
        memory = (*remembered, *memory)[: SLOTS - 1]
        # a multistep method of order k needs k exact values to start from, or its start is what one measures
        if step.index < sampler.order and "single" not in name:
            x = exact(step.there)
    return abs(x - exact(run.legs[count - 1][1]))


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("lcm", "ddpm")])
def test_halving_the_step_shrinks_the_error_with_the_order(name):
    coarse, fine = error(name, 192), error(name, 384)
    assert fine < 1e-2
    assert np.log2(coarse / fine) >= SAMPLERS[name].order - 0.1
