"""DPM-Solver++: Lu et al. 2022, https://arxiv.org/abs/2211.01095, and its SDE forms.

h is the length of a step in lambda, half the log signal-to-noise ratio. With eta = 0 the multistep solvers
are those of the paper; with eta = 1 they solve the reverse SDE, as diffusers' sde-dpmsolver++ and
k-diffusion's sample_dpmpp_2m_sde and sample_dpmpp_3m_sde do. The step to zero noise is the prediction itself.
"""

from __future__ import annotations

import numpy as np

from sdrt.samplers.integrals import phi_remainder
from sdrt.samplers.table import Memory, Network, Point, Step, Vector


def dpmpp_2m(
    network: Network, step: Step, x: Vector, memory: Memory, *, eta: float = 0.0, heun: bool = False
) -> tuple[Vector, ...]:
    """DPM++ 2M, algorithm 2; DPM++ 2M SDE with eta = 1.

    heun: weighs the slope as the third-order solver does, k-diffusion's solver_type. Order 2 (1 in the first
    step), one evaluation per step.
    """
    here, there = step.here, step.there
    x_0 = network(x, here)
    if there.sigma == 0:
        return (x_0,)
    x_next = _first_order(network, x, x_0, here, there, eta)
    if step.past and step.order_near_end(2) == 2:
        h = _length(here, there)
        slope = (h / _length(step.past[0], here)) * (x_0 - memory[0])
        h_eta = (1.0 + eta) * h
        x_next += there.alpha * (_phi_2(h_eta) if heun else -np.expm1(-h_eta) / 2) * slope
    return x_next, x_0


def dpmpp_3m(
    network: Network, step: Step, x: Vector, memory: Memory, *, eta: float = 0.0, heun: bool = False
) -> tuple[Vector, ...]:
    """DPM++ 3M: diffusers' DPMSolverMultistepScheduler with solver_order 3; DPM++ 3M SDE with eta = 1.

    heun: weighs the slope of the second step as those of the later, as k-diffusion does and not diffusers.
    Fits a parabola, but is of order 2 as published: phi_3 weighs x_0'', of which `curvature` times h is half.
    diffusers and k-diffusion have it so, and the picture is to be theirs. The SDE form is k-diffusion's
    sample_dpmpp_3m_sde; diffusers 0.42 has the sign of its last 1/2 wrong. One evaluation per step.
    """
    here, there, past = step.here, step.there, step.past
    x_0 = network(x, here)
    if there.sigma == 0:
        return (x_0,)
    order = min(1 + len(past), step.order_near_end(3))
    x_next = _first_order(network, x, x_0, here, there, eta)
    h = _length(here, there)
    h_eta = (1.0 + eta) * h
    if order >= 2:
        h_1 = _length(past[0], here)
        slope = (h / h_1) * (x_0 - memory[0])
    if order == 2:
        x_next += there.alpha * (_phi_2(h_eta) if heun else -np.expm1(-h_eta) / 2) * slope
    if order == 3:
        h_2 = _length(past[1], past[0])
        slope_before = (h / h_2) * (memory[0] - memory[1])
        curvature = (slope - slope_before) / (h_1 + h_2)
        x_next += there.alpha * (_phi_2(h_eta) * (slope + h_1 * curvature) - _phi_3(h_eta) * h * curvature)
    return x_next, x_0, memory[0]


def dpmpp_singlestep(
    network: Network, step: Step, x: Vector, memory: Memory, *, order: int
) -> tuple[Vector, ...]:
    """DPM++ single-step of order 2 or 3, algorithm 1: diffusers' DPMSolverSinglestepScheduler.

    `order` of its steps, of growing order and all from one start, make one step of the paper; the last is of
    order 1. One evaluation per step.
    """
    here, there = step.here, step.there
    x_0 = network(x, here)
    if there.sigma == 0:
        return (x_0,)
    order = min(_orders(step, order)[step.index], 1 + len(step.past))
    start, x_0_before, x_0_before_that = memory[:3]
    if order == 1:
        return _first_order(network, x, x_0, here, there), x, x_0
    origin = step.past[order - 2]
    x_0_origin = x_0_before if order == 2 else x_0_before_that
    h = _length(origin, there)
    slope = (h / _length(origin, here)) * (x_0 - x_0_origin)
    weight = -np.expm1(-h) / 2 if order == 2 else _phi_2(h)
    x_next = _first_order(network, start, x_0_origin, origin, there) + there.alpha * weight * slope
    return x_next, start, x_0, x_0_before


def _first_order(
    network: Network, x: Vector, x_0: Vector, here: Point, there: Point, eta: float = 0.0
) -> Vector:
    """Order 1, DDIM: as if x_0 stayed as it is all the way."""
    h = _length(here, there)
    noise = there.sigma * np.sqrt(-np.expm1(-2.0 * eta * h))
    scale = there.sigma / here.sigma * np.exp(-eta * h)
    x_next = np.asarray(scale * x - there.alpha * np.expm1(-(1.0 + eta) * h) * x_0)
    return x_next + noise * network.noise() if eta else x_next


def _length(here: Point, there: Point) -> float:
    return there.lambda_ - here.lambda_


def _phi_2(h: float) -> float:
    """1 - (1 - e^-h) / h, about h / 2."""
    return -phi_remainder(1, -h)


def _phi_3(h: float) -> float:
    """phi_2 / h - 1/2, about -h / 6."""
    return phi_remainder(2, -h)


def _orders(step: Step, order: int) -> list[int]:
    """The order of each step: 1, 2, .. `order`, again and again, lower towards the end."""
    count, to_zero = step.count, step.end.sigma == 0
    if count % order and order == 2:
        return [1, 2] * (count // 2) + [1]
    if order == 2:
        return [1, 2] * (count // 2 - 1) + [1, 1] if to_zero else [1, 2] * (count // 2)
    if count % 3 == 0:
        return [1, 2, 3] * (count // 3 - 1) + [1, 2, 1] if to_zero else [1, 2, 3] * (count // 3)
    return [1, 2, 3] * (count // 3) + [1, 2][: count % 3]
