"""A sampler as a list of small matrices.

Every sampler of the field is linear in the latents, the network's outputs and the noise. The state S has
SLOTS vectors, each the size of the latents; slot 0 is what the network sees next, the others are the
sampler's memory. Evaluation k of the network then does

    m  = network(c_in[k] * S[0], timesteps[k])      raw prediction, already guided
    S' = A[k] S + b[k] m + c[k] z[k]                M[k] = [A | b | c], z = unit Gaussian noise

A sampler is written as a step function on vectors. Its matrices are that function applied to the identity, in
float64; so nobody derives coefficients by hand. A step may ask the network more than once: every answer is a
new unknown, and what the step has found out before is carried in the slots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdrt.samplers.schedule import PredictionType

Vector = NDArray[np.float64]
Memory = tuple[Vector, ...]

SLOTS = 5
COLUMNS = SLOTS + 2  # the slots, the prediction, the noise
_MOST_EVALUATIONS = 2  # of one step
_FEW_STEPS = 15
_IDENTITY = np.eye(SLOTS + 2 * _MOST_EVALUATIONS)
_OF_X, _OF_M = np.eye(2)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A noise level: x = alpha * x_0 + sigma * epsilon, for which the network was told `timestep`.

    Variance-preserving samplers have alpha^2 + sigma^2 = 1, the sigma-space ones of Karras et al. 2022 have
    alpha = 1, flow matching has alpha + sigma = 1. All three are one formula here.
    """

    timestep: float
    alpha: float
    sigma: float

    @property
    def lambda_(self) -> float:
        """Half the log signal-to-noise ratio, log(alpha / sigma); inf without noise."""
        return float(np.log(self.alpha) - np.log(self.sigma)) if self.sigma > 0 else np.inf

    def c_in(self, prediction: PredictionType) -> float:
        """What x is scaled by before the network sees it: to unit variance, or to what a flow model saw."""
        if prediction == "flow":
            return 1.0 / (self.alpha + self.sigma)
        return float(1.0 / np.hypot(self.alpha, self.sigma))

    def denoised(self, x: Vector, m: Vector, prediction: PredictionType) -> Vector:
        """x_0 from the network's raw prediction m at x (Salimans and Ho 2022, appendix D, for v)."""
        c_in = self.c_in(prediction)
        if prediction == "epsilon":
            return (x - self.sigma * m) / self.alpha
        if prediction == "v_prediction":
            return c_in * (self.alpha * c_in * x - self.sigma * m)
        if prediction == "flow":
            return c_in * (x - self.sigma * m)
        return m

    def epsilon(self, x: Vector, x_0: Vector) -> Vector:
        """The noise in x."""
        return (x - self.alpha * x_0) / self.sigma


@dataclass(frozen=True, kw_only=True)
class Path:
    """Where a run goes: from `here` to `there` with each step. `there` is mostly the next step's `here`.

    point: makes one more point, from a sigma in sigma space and from an integer timestep elsewhere.
    initial_scale: unit noise times this is the initial x. tapers: multistep solvers lower their order in the
    last steps of a short run, as diffusers' do and k-diffusion's do not.
    """

    legs: tuple[tuple[Point, Point], ...]
    point: Callable[[float], Point]
    initial_scale: float
    tapers: bool = True


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a step function may know: from `here` to `there`, having come from `past`, the latest point first.

    index, count: of this step and of all, also where a run starts in the middle; `past` is empty there.
    following: where the next step starts, None at the last.
    end: where the last step ends; point: see Path.
    """

    here: Point
    there: Point
    past: tuple[Point, ...]
    following: Point | None
    index: int
    count: int
    end: Point
    point: Callable[[float], Point]
    prediction: PredictionType
    tapers: bool = True

    @property
    def remaining(self) -> int:
        """Steps left, this one included."""
        return self.count - self.index

    def order_near_end(self, order: int) -> int:
        """`order`, or less in the last steps of a short run where `tapers` says so."""
        return min(order, self.remaining) if self.tapers and self.count < _FEW_STEPS else order


class Network:
    """The network as a step function meets it: every call is one evaluation, every answer a new unknown."""

    def __init__(self, prediction: PredictionType) -> None:
        self._prediction = prediction
        self.inputs: list[tuple[Vector, Point]] = []

    def __call__(self, x: Vector, at: Point) -> Vector:
        """x_0 as the network sees it in x."""
        return at.denoised(x, self.prediction(x, at), self._prediction)

    def prediction(self, x: Vector, at: Point) -> Vector:
        """The network's raw output, whatever it predicts."""
        self.inputs.append((x, at))
        return np.asarray(_IDENTITY[SLOTS + 2 * len(self.inputs) - 2])

    def noise(self) -> Vector:
        """Unit Gaussian noise, new with every evaluation."""
        return np.asarray(_IDENTITY[SLOTS + 2 * len(self.inputs) - 1])


# network, step, x, memory (SLOTS - 1 vectors) -> the next x and what to remember, at most SLOTS in all
StepFunction = Callable[[Network, Step, Vector, Memory], tuple[Vector, ...]]


@dataclass(frozen=True, kw_only=True)
class SamplerTable:
    """A compiled sampler; E evaluations of the network.

    timesteps: [E] float64, may be fractional.
    steps: [E] int64, the step that each evaluation belongs to, from 0.
    alphas, sigmas: [E] float64, signal and noise in x at each evaluation.
    c_in: [E] float64, scale of the network input.
    matrices: [E, SLOTS, COLUMNS] float64, M[k] = [A | b | c].
    denoised: [E, 2] float64, d[k]: at evaluation k the network says that x_0 is d[0] S[0] + d[1] m.
    noisy: [E] bool, whether evaluation k draws noise.
    initial_scale: unit noise times this is the sampler's initial x. A run that starts in the middle begins
    with alphas[0] * latents + initial_scale * noise.
    """

    timesteps: Vector
    steps: NDArray[np.int64]
    alphas: Vector
    sigmas: Vector
    c_in: Vector
    matrices: Vector
    denoised: Vector
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


def steps_along(path: Path, prediction: PredictionType, *, start: int = 0) -> Iterator[Step]:
    """The steps of a path from number `start` on, which knows nothing of those before it."""
    legs = path.legs
    past: tuple[Point, ...] = ()
    for index in range(start, len(legs)):
        here, there = legs[index]
        yield Step(
            here=here,
            there=there,
            past=past,
            following=legs[index + 1][0] if index + 1 < len(legs) else None,
            index=index,
            count=len(legs),
            end=legs[-1][1],
            point=path.point,
            prediction=prediction,
            tapers=path.tapers,
        )
        past = (here, *past[: SLOTS - 1])


def compile_path(
    path: Path, step_function: StepFunction, prediction: PredictionType, *, start: int = 0
) -> SamplerTable:
    """Apply `step_function` to the identity, step by step."""
    points: list[Point] = []
    matrices: list[Vector] = []
    numbers: list[int] = []
    for step in steps_along(path, prediction, start=start):
        network = Network(prediction)
        slots = step_function(network, step, _IDENTITY[0], tuple(_IDENTITY[1:SLOTS]))
        matrices += _matrices([x for x, _ in network.inputs], slots)
        points += [at for _, at in network.inputs]
        numbers += [step.index] * len(network.inputs)
    return SamplerTable(
        timesteps=np.array([at.timestep for at in points]),
        steps=np.array(numbers),
        alphas=np.array([at.alpha for at in points]),
        sigmas=np.array([at.sigma for at in points]),
        c_in=np.array([at.c_in(prediction) for at in points]),
        matrices=np.stack(matrices),
        denoised=np.stack([at.denoised(_OF_X, _OF_M, prediction) for at in points]),
        noisy=np.array([matrix[:, -1].any() for matrix in matrices]),
        initial_scale=path.initial_scale if start == 0 else points[0].sigma,
    )


def _matrices(inputs: list[Vector], slots: tuple[Vector, ...]) -> list[Vector]:
    """One matrix for each evaluation of a step.

    After evaluation j the slots hold as much as is known of the inputs to come and of the step's result, so
    that the next evaluation has only its own terms to add.
    """
    wanted = np.stack([*inputs[1:], *slots])
    matrices = []
    for j in range(len(inputs)):
        own = SLOTS + 2 * j  # column of this evaluation's prediction; its noise is the next
        matrix = np.zeros((SLOTS, COLUMNS))
        rows = wanted[j:]
        if j == 0:
            matrix[: len(rows), :SLOTS] = rows[:, :SLOTS]
        else:
            matrix[: len(rows), 1 : 1 + len(rows)] = np.eye(len(rows))
        matrix[: len(rows), SLOTS:] = rows[:, own : own + 2]
        matrices.append(matrix)
    return matrices
