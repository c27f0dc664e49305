"""PLMS: Liu et al. 2022, "Pseudo numerical methods for diffusion models on manifolds" (PNDM)."""

from __future__ import annotations

from sdrt.samplers.integrals import combination
from sdrt.samplers.table import Memory, Network, Point, Step, Vector

# Adams and Bashforth 1883, for one to four known slopes at even distances
_ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def plms(network: Network, step: Step, x: Vector, memory: Memory) -> tuple[Vector, ...]:
    """https://arxiv.org/abs/2202.09778, algorithm 2 with the start of diffusers' PNDMScheduler.

    Order 2: the extrapolation is of order 4, but DDIM's transfer holds it constant over a step. One
    evaluation per step and one more in the first, which is taken twice (improved Euler). As in diffusers,
    what is extrapolated is the network's raw prediction, whatever it predicts.
    """
    here, there, following = step.here, step.there, step.following
    m = network.prediction(x, here)
    if step.past:
        slopes = (m, *memory)[: min(len(step.past), 3) + 1]
        slope = combination(_ADAMS_BASHFORTH[len(slopes) - 1], slopes)
        return _transfer(step, x, slope, here, there), m, *memory[:2]
    if following is None:
        return (_transfer(step, x, m, here, there),)
    m_following = network.prediction(_transfer(step, x, m, here, there), following)
    # the same step again, as long as it was; only with leading spacing does it start where the first one did
    again = step.point(following.timestep + here.timestep - there.timestep)
    return _transfer(step, x, (m + m_following) / 2, again, following), m


def _transfer(step: Step, x: Vector, m: Vector, here: Point, there: Point) -> Vector:
    """DDIM's way from `here` to `there`, equation 11."""
    x_0 = here.denoised(x, m, step.prediction)
    return there.alpha * x_0 + there.sigma * here.epsilon(x, x_0)
