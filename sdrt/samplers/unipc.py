"""UniPC: Zhao et al. 2023, "UniPC: a unified predictor-corrector framework", https://arxiv.org/abs/2302.04867."""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial

import numpy as np

from sdrt.samplers.integrals import combination, phi_remainder
from sdrt.samplers.table import Memory, Network, Point, Step, Vector


def unipc(
    network: Network, step: Step, x: Vector, memory: Memory, *, order: int, bh1: bool = False
) -> tuple[Vector, ...]:
    """UniPC on the data prediction: diffusers' UniPCMultistepScheduler.

    A prediction of order `order` (less in the first and the last steps), corrected once the network has seen
    it, at no cost: the corrector needs the evaluation that the next prediction needs too.
    bh1: B(h) = h instead of e^h - 1, the function the paper leaves free. One evaluation per step.
    """
    here, there, past = step.here, step.there, step.past
    x_before, *seen = memory
    x_0 = network(x, here)
    if past:
        order_before = min(order, step.remaining + 1, len(past))
        known = list(zip(past, seen, strict=False))[:order_before]
        x = _update(x_before, past[0], here, [*known, (here, x_0)], bh1)
    order = min(order, step.remaining, len(past) + 1)
    known = list(zip((here, *past), (x_0, *seen), strict=False))[:order]
    return _update(x, here, there, known, bh1), x, x_0, *seen[:2]


def _update(x: Vector, here: Point, there: Point, seen: Sequence[tuple[Point, Vector]], bh1: bool) -> Vector:
    """Equation 3 on the data prediction: from `here` to `there`, knowing x_0 at the points in `seen`.

    The first of these is `here`; the corrector knows the last, `there`, as well.
    """
    h = there.lambda_ - here.lambda_
    (_, x_0), *others = seen
    if there.sigma == 0:
        return x_0
    if h == 0:
        return x
    x_next = (there.sigma / here.sigma) * x - there.alpha * np.expm1(-h) * x_0
    if not others:
        return np.asarray(x_next)
    b_h = -h if bh1 else float(np.expm1(-h))
    ratios = [(point.lambda_ - here.lambda_) / h for point, _ in others]
    slopes = [(other - x_0) / r for r, (_, other) in zip(ratios, others, strict=True)]
    slope = combination(_weights(ratios, h, b_h), slopes)
    return np.asarray(x_next - there.alpha * b_h * slope)


def _weights(ratios: Sequence[float], h: float, b_h: float) -> list[float]:
    """What makes the update exact for polynomials: the solution of equation 5, R rho = b."""
    if len(ratios) == 1:
        return [0.5]  # as the authors do, which is right to first order
    moments = [phi_remainder(k, -h) * factorial(k) / b_h for k in range(1, len(ratios) + 1)]
    return list(np.linalg.solve(np.vander(ratios, increasing=True).T, moments))
