"""A sampler as a list of small matrices.

Every sampler of the field is linear in the latents, the network's outputs and the noise. The state S has
SLOTS vectors, each the size of the latents; slot 0 is what the network sees next, the others are the
sampler's memory. Evaluation k of the network then does

    m  = network(c_in[k] * S[0], timesteps[k])      raw prediction, already guided
    S' = A[k] S + b[k] m + c[k] z[k]                M[k] = [A | b | c], z = unit Gaussian noise

A sampler is written as a step function on vectors. Its matrix is that function applied to the identity, in
float64; so nobody derives coefficients by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sdrt.samplers.schedule import PredictionType

Vector = NDArray[np.float64]

SLOTS = 5
COLUMNS = SLOTS + 2  # the slots, the prediction, the noise
_IDENTITY = np.eye(COLUMNS)
_PREDICTION, _NOISE = _IDENTITY[SLOTS], _IDENTITY[SLOTS + 1]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A noise level: x = alpha * x_0 + sigma * epsilon, for which the network was told `timestep`.

    Variance-preserving samplers have alpha^2 + sigma^2 = 1; the sigma-space ones of Karras et al. 2022 have
    alpha = 1. Both are one formula here.
    """

    timestep: float
    alpha: float
    sigma: float

    @property
    def c_in(self) -> float:
        """What the network input is scaled by, so that it has unit variance (Karras et al. 2022, table 1)."""
        return float(1.0 / np.hypot(self.alpha, self.sigma))

    @property
    def lambda_(self) -> float:
        """Half the log signal-to-noise ratio, log(alpha / sigma); inf without noise."""
        return float(np.log(self.alpha) - np.log(self.sigma)) if self.sigma > 0 else np.inf

    def denoised(self, x: Vector, m: Vector, prediction: PredictionType) -> Vector:
        """x_0 from the network's raw prediction m at x (Salimans and Ho 2022, appendix D, for v)."""
        if prediction == "epsilon":
            return (x - self.sigma * m) / self.alpha
        if prediction == "v_prediction":
            return self.c_in * (self.alpha * self.c_in * x - self.sigma * m)
        return m


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a step function may know: from `here` to `there`, having come from `before` (None at first).

    last: whether this is the last step.
    """

    here: Point
    there: Point
    before: Point | None
    last: bool
    prediction: PredictionType

    def denoised(self, x: Vector, m: Vector) -> Vector:
        """x_0 as the network sees it at `here`."""
        return self.here.denoised(x, m, self.prediction)


# x, m, z, memory (SLOTS - 1 vectors) -> the next x and what to remember, at most SLOTS vectors in all
StepFunction = Callable[[Step, Vector, Vector, Vector, tuple[Vector, ...]], tuple[Vector, ...]]


@dataclass(frozen=True, kw_only=True)
class SamplerTable:
    """A compiled sampler; E evaluations of the network.

    timesteps: [E] float64, may be fractional.
    c_in: [E] float64, scale of the network input.
    matrices: [E, SLOTS, COLUMNS] float64, M[k] = [A | b | c].
    noisy: [E] bool, whether evaluation k draws noise.
    initial_scale: unit noise times this is the sampler's initial x.
    """

    timesteps: Vector
    c_in: Vector
    matrices: Vector
    noisy: NDArray[np.bool_]
    initial_scale: float

    @property
    def evaluations(self) -> int:
        """How often the network runs."""
        return len(self.timesteps)

    def response(self) -> Vector:
        """The whole sampler as one matrix: [E + 1, 1 + E + draws] float64.

        Rows: the network inputs before scaling x_0 .. x_{E-1}, then the result. Columns: the initial latents,
        the predictions m_0 .. m_{E-1}, and the noise of those evaluations that draw any.
        """
        draws = np.flatnonzero(self.noisy)
        columns = np.eye(1 + self.evaluations + len(draws))
        state = np.zeros((SLOTS, len(columns)))
        state[0] = columns[0]
        rows = [state[0]]
        for k, matrix in enumerate(self.matrices):
            noise = (
                columns[1 + self.evaluations + np.searchsorted(draws, k)] if self.noisy[k] else 0 * columns[0]
            )
            state = matrix @ np.vstack([state, columns[1 + k], noise])
            rows.append(state[0])
        return np.stack(rows)


def steps_between(points: Sequence[Point], prediction: PredictionType) -> list[Step]:
    """One step between each two neighbours."""
    ends = list(pairwise(points))
    return [
        Step(
            here=here,
            there=there,
            before=points[k - 1] if k > 0 else None,
            last=k == len(ends) - 1,
            prediction=prediction,
        )
        for k, (here, there) in enumerate(ends)
    ]


def compile_steps(
    steps: Iterable[Step], step_function: StepFunction, *, initial_scale: float
) -> SamplerTable:
    """Apply `step_function` to the identity, step by step."""
    steps = list(steps)
    matrices = np.zeros((len(steps), SLOTS, COLUMNS))
    for matrix, step in zip(matrices, steps, strict=True):
        slots = step_function(step, _IDENTITY[0], _PREDICTION, _NOISE, tuple(_IDENTITY[1:SLOTS]))
        matrix[: len(slots)] = slots
    return SamplerTable(
        timesteps=np.array([step.here.timestep for step in steps]),
        c_in=np.array([step.here.c_in for step in steps]),
        matrices=matrices,
        noisy=np.asarray(matrices[:, :, -1].any(axis=1)),
        initial_scale=initial_scale,
    )
