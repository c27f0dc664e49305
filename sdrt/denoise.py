"""The denoising loop: network, step, network, step; the host only binds buffers.

Rows belong to samples: every sample of a batch has its own sampler table, timesteps, guidance and prompts,
so pictures that differ in all of these share one evaluation of the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sdrt import graphs
from sdrt.backends import Array, Backend, Buffer, Runtime
from sdrt.deep_cache import DeepCache
from sdrt.errors import ComputeError, InputError
from sdrt.noise import NoiseGenerator
from sdrt.samplers import COLUMNS, SLOTS, SamplerTable

Row = Mapping[str, Array]
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the network is told of one picture.

    rows: by input name, without the batch axis: encoder_hidden_states [L, D] and what else its graph takes.
    guidance: the weight of each row, so that the network's prediction is sum(guidance[r] * out[r]); a row of
    weight 0 is not run.
    changes: what all rows are told from an evaluation on, by its number; shapes stay the same.
    reweighed: other weights from an evaluation on.
    """

    rows: Sequence[Row]
    guidance: Sequence[float]
    changes: Mapping[int, Sequence[Row]] = field(default_factory=dict)
    reweighed: Mapping[int, Sequence[float]] = field(default_factory=dict)

    def rows_at(self, k: int) -> Sequence[Row]:
        """What the rows are told at evaluation k."""
        return _latest(self.rows, self.changes, k)

    def guidance_at(self, k: int) -> Sequence[float]:
        """The weights of the rows at evaluation k."""
        return _latest(self.guidance, self.reweighed, k)


def _latest(first: _T, changes: Mapping[int, _T], k: int) -> _T:
    last = max((change for change in changes if change <= k), default=None)
    return first if last is None else changes[last]


@dataclass(frozen=True, kw_only=True)
class Held:
    """Latents that a run may not change, except where it is free.

    free: [h, w] bool. latents: [C, h, w] float32, what every step puts back elsewhere, with `noise`
    [C, h, w] float32, always the same, as loud as the next noise level is.
    """

    free: NDArray[np.bool_]
    latents: Array
    noise: Array


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture to be.

    latents: where the run starts, [C, h, w] float32 in the sampler's own scale. noise: the stream that later
    noise comes from. held: None if all of the picture may change.
    """

    table: SamplerTable
    conditions: Conditions
    latents: Array
    noise: NoiseGenerator
    held: Held | None = None


def initial_latents(table: SamplerTable, noise: NoiseGenerator, shape: tuple[int, int, int]) -> Array:
    """Where a run from nothing but noise starts: [C, h, w] float32, the next of `noise`, scaled."""
    latents: Array = np.float32(table.initial_scale) * initial_noise(noise, shape)
    return latents


def initial_noise(noise: NoiseGenerator, shape: tuple[int, int, int]) -> Array:
    """The first of a run: [C, h, w] float32, the next of `noise`."""
    try:
        drawn: Array = noise.randn((1, *shape))[0]
    except (MemoryError, ValueError):  # numpy's ValueError: more than an address can count
        wanted = 4e-9 * math.prod(shape)
        raise ComputeError(
            f"out of memory: {wanted:.1f} GB were wanted for the noise; lower the size or the count"
        ) from None
    return drawn


class StepGraph:
    """The denoising step, loaded twice: one reads the state that the other has written, and back."""

    def __init__(self, runtime: Runtime, dtype: str) -> None:
        self._load = partial(runtime.load, graphs.path("step", dtype), small=True)
        self.halves = (self._load(), self._load())
        self._aside: Backend | None = None

    def aside(self) -> Backend:
        """One more, for steps that lead to a prediction; loaded when the first is asked for."""
        if self._aside is None:
            self._aside = self._load()
        return self._aside

    def close(self) -> None:
        """Free all."""
        for graph in (*self.halves, self._aside):
            if graph is not None:
                graph.close()


class Denoising:
    """One batch on its way from noise to latents. Iterate over it to run it; it yields the evaluations done.

    shape: of one sample's latents, (C, h, w). deep_cache: run the U-Net's shallow graph in some evaluations,
    on the deep features that lie where the full graph has written them.
    done: how many evaluations are.
    """

    def __init__(
        self,
        runtime: Runtime,
        unet: Backend,
        step: StepGraph,
        samples: Sequence[Sample],
        shape: tuple[int, int, int],
        *,
        deep_cache: DeepCache | None = None,
    ) -> None:
        deep_cache = deep_cache or DeepCache(shallow=unet, interval=1)
        self._device = runtime.device
        self._unet = unet
        self._shallow = deep_cache.shallow
        self._step = step
        self._samples = samples
        self._shape = shape
        self.evaluations = max(sample.table.evaluations for sample in samples)
        self._plan = _Plan(samples, self.evaluations, deep_cache)
        self._states = [self._empty((len(samples), SLOTS, *shape), "float32") for _ in range(2)]
        self._finite = [self._empty((len(samples),), "float32") for _ in range(2)]
        self._shared = {
            "noise": self._empty((len(samples), *shape), "float32"),
            "matrix": self._empty((len(samples), SLOTS, COLUMNS), "float32"),
            "c_in": self._empty((len(samples), 1, 1, 1), "float32"),
            "free": self._empty((len(samples), SLOTS, 1, *shape[1:]), "float32"),
            "held": self._empty((len(samples), 2, *shape), "float32"),
            "hold": self._empty((len(samples), SLOTS, 2), "float32"),
        }
        self._buffers = {first: self._phase_buffers(phase) for first, phase in self._plan.phases.items()}
        self._bound: list[tuple[int, int] | None] = [None, None]
        self._aside: dict[str, Buffer] = {}
        self.done = 0

    @property
    def state(self) -> Buffer:
        """[B, SLOTS, C, h, w] float32; once the loop has ended, slot 0 holds the final latents."""
        return self._states[(self.done + 1) % 2]

    @property
    def seeds(self) -> list[int]:
        """Of the pictures of the batch."""
        return [sample.noise.seed for sample in self._samples]

    def check(self) -> None:
        """Wait for the last step; raise ComputeError naming what first gave NaN or Inf, for each picture."""
        finite = self._device.download(self._finite[(self.done + 1) % 2])
        # the step before the first evaluation counts too
        wrong = [(b, max(int(steps) - 1, 0)) for b, steps in enumerate(finite) if steps <= self.done]
        if wrong:
            raise ComputeError(
                f"NaN or Inf: {'; '.join(self._named(b, k) for b, k in wrong)}. With an FP16 bundle try one "
                "exported with --precision fp32, else another sampler, more steps or less guidance"
            )

    def _named(self, b: int, k: int) -> str:
        graph = "unet_shallow" if k in self._plan.reusing else "unet"
        return (
            f"the {graph} graph gave it in evaluation {k + 1} of {self.evaluations} "
            f"(timestep {self._plan.timesteps[k, b]:g}) of the picture with seed {self.seeds[b]}"
        )

    def __iter__(self) -> Iterator[int]:
        plan, upload, shared = self._plan, self._device.upload, self._shared
        self._start()
        for k in range(self.evaluations):
            phase, buffers = plan.phase_at(k), self._buffers[plan.first_of(k)]
            if k in plan.phases:
                for graph in dict.fromkeys((self._unet, self._shallow)):
                    graph.bind({name: buffers[name] for name in (*graph.inputs, *graph.outputs)})
            upload(plan.timesteps[k, phase.owners], buffers["timestep"])
            if k in plan.changes:
                for name, values in phase.told(k).items():
                    upload(values, buffers[name])
            (self._shallow if k in plan.reusing else self._unet).run()
            upload(plan.matrices[k], shared["matrix"])
            upload(plan.c_in[k + 1], shared["c_in"])
            if plan.holds:
                upload(plan.hold[k], shared["hold"])
            if plan.noisy[k].any():
                upload(self._draw_noise(k), shared["noise"])
            self._run_step((k + 1) % 2, plan.first_of(k), plan.first_of(k + 1))
            self.done = k + 1
            yield self.done

    def predict(self) -> Buffer:
        """The state of a batch that ends now: slot 0 is x_0 as the network saw it in the latest evaluation.

        [B, SLOTS, C, h, w] float32, until the next call. To be called between two evaluations: what the step
        has read is still there, and is read again by a step whose matrix leads to x_0. Without this call
        nothing is loaded or computed.
        """
        k, batch = self.done - 1, len(self._samples)
        if not self._aside:
            self._aside = {
                "matrix": self._empty((batch, SLOTS, COLUMNS), "float32"),
                "hold": self._filled(np.broadcast_to(_HELD_AT_THE_END, (batch, SLOTS, 2)), "float32"),
                "next_state": self._empty(self._states[0].shape, "float32"),
                "next_finite": self._empty((batch,), "float32"),
                # nobody reads this one
                "sample": self._empty(self._buffers[0]["sample"].shape, self._buffers[0]["sample"].dtype),
            }
        matrix = np.zeros((batch, SLOTS, COLUMNS), np.float32)
        matrix[:, 0, [0, SLOTS]] = self._plan.denoised[k]
        self._device.upload(matrix, self._aside["matrix"])
        outputs, read = self._buffers[self._plan.first_of(k)], self.done % 2
        graph = self._step.aside()
        graph.bind(
            {
                **self._shared,
                **{name: outputs[name] for name in ("out_sample", "guidance", "rows")},
                "owners": self._buffers[0]["owners"],
                "state": self._states[read],
                "finite": self._finite[read],
                **self._aside,
            }
        )
        graph.run()
        return self._aside["next_state"]

    def _start(self) -> None:
        """Lay the first network input: a step whose matrix is the identity."""
        self.done = 0
        plan, upload, shared = self._plan, self._device.upload, self._shared
        state = np.zeros((len(self._samples), SLOTS, *self._shape), np.float32)
        for slots, sample in zip(state, self._samples, strict=True):
            slots[0] = sample.latents
        upload(state, self._states[0])
        upload(np.zeros(len(self._samples), np.float32), self._finite[0])
        # zero times what happens to lie in fresh memory could be NaN
        out_sample = self._buffers[0]["out_sample"]
        upload(np.zeros(out_sample.shape, np.float32), out_sample)
        upload(np.zeros(shared["noise"].shape, np.float32), shared["noise"])
        upload(np.broadcast_to(_IDENTITY, shared["matrix"].shape), shared["matrix"])
        upload(plan.c_in[0], shared["c_in"])
        upload(np.zeros(shared["hold"].shape, np.float32), shared["hold"])
        self._hold([None for _ in self._samples])
        self._run_step(0, 0, 0)
        if plan.holds:
            self._hold([sample.held for sample in self._samples])

    def _hold(self, held: Sequence[Held | None]) -> None:
        """Lay what each sample is held to; with None a step has its way everywhere."""
        free = np.ones(self._shared["free"].shape, np.float32)
        latents = np.zeros(self._shared["held"].shape, np.float32)
        for b, one in enumerate(held):
            if one is not None:
                free[b, 0] = one.free
                latents[b] = np.where(one.free, 0, np.stack([one.latents, one.noise]))
        self._device.upload(free, self._shared["free"])
        self._device.upload(latents, self._shared["held"])

    def _run_step(self, which: int, now: int, then: int) -> None:
        """Read what the rows of phase `now` gave, and lay the network input for those of phase `then`."""
        half = self._step.halves[which]
        if self._bound[which] != (now, then):
            read, write = which, 1 - which
            outputs, inputs = self._buffers[now], self._buffers[then]
            half.bind(
                {
                    **self._shared,
                    **{name: outputs[name] for name in ("out_sample", "guidance", "rows")},
                    **{name: inputs[name] for name in ("owners", "sample")},
                    "state": self._states[read],
                    "next_state": self._states[write],
                    "finite": self._finite[read],
                    "next_finite": self._finite[write],
                }
            )
            self._bound[which] = (now, then)
        half.run()

    def _draw_noise(self, k: int) -> Array:
        noise = np.zeros((len(self._samples), *self._shape), np.float32)
        for drawn, sample, noisy in zip(noise, self._samples, self._plan.noisy[k], strict=True):
            if noisy:
                drawn[:] = sample.noise.randn((1, *self._shape))[0]
        return noise

    def _phase_buffers(self, phase: _Phase) -> dict[str, Buffer]:
        unet, rows = self._unet, len(phase.owners)
        channels, *size = self._shape
        return {
            "sample": self._empty((rows, *self._shape), unet.inputs["sample"].dtype),
            "timestep": self._empty((rows,), unet.inputs["timestep"].dtype),
            **{  # out_sample and, where the bundle has them, deep_features
                name: self._empty((rows, spec.shape[1] or channels, *size), spec.dtype)
                for name, spec in unet.outputs.items()
            },
            "guidance": self._filled(phase.guidance, "float32"),
            "rows": self._filled(phase.rows, "int64"),
            "owners": self._filled(phase.owners, "int64"),
            **{
                name: self._filled(values, unet.inputs[name].dtype)
                for name, values in phase.told(phase.first).items()
            },
        }

    def _empty(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return self._device.empty(shape, dtype)

    def _filled(self, array: Array, dtype: str) -> Buffer:
        buffer = self._empty(array.shape, dtype)
        self._device.upload(array, buffer)
        return buffer


_IDENTITY = np.eye(SLOTS, COLUMNS, dtype=np.float32)
# after the last evaluation there is no noise
_HELD_AT_THE_END = np.eye(SLOTS, 2, dtype=np.float32) * [1, 0]
_STANDING = np.array([1.0, 0.0])  # a picture that is done is its own prediction


class _Plan:
    """What the host uploads: B samples, E evaluations.

    A sample whose table is shorter than the longest stands still, with the identity for its matrix.
    hold: how much of its latents and noise a sample is held to after each evaluation. changes: the
    evaluations at which a row is told another thing than before. phases: by first evaluation.
    reusing: the evaluations that run the shallow graph.
    """

    def __init__(self, samples: Sequence[Sample], evaluations: int, deep_cache: DeepCache) -> None:
        batch = len(samples)
        self.matrices = np.tile(_IDENTITY, (evaluations, batch, 1, 1))  # [E, B, SLOTS, COLUMNS]
        self.timesteps = np.zeros((evaluations, batch), np.float32)
        self.c_in = np.ones((evaluations + 1, batch, 1, 1, 1), np.float32)
        self.noisy = np.zeros((evaluations, batch), bool)
        self.hold = np.zeros((evaluations, batch, SLOTS, 2), np.float32)
        self.hold[:] = _HELD_AT_THE_END
        self.holds = any(sample.held is not None for sample in samples)
        self.denoised = np.tile(_STANDING, (evaluations, batch, 1))
        for b, sample in enumerate(samples):
            table, length = sample.table, sample.table.evaluations
            self.matrices[:length, b] = table.matrices
            self.timesteps[:length, b] = table.timesteps
            self.timesteps[length:, b] = table.timesteps[-1]
            self.c_in[:length, b, 0, 0, 0] = table.c_in
            self.noisy[:length, b] = table.noisy
            self.hold[: length - 1, b, 0] = np.stack([table.alphas[1:], table.sigmas[1:]], axis=-1)
            self.denoised[:length, b] = table.denoised
        told = [sample.conditions for sample in samples]
        self.changes = {k for one in told for k in one.changes}
        firsts = {0, *(k for one in told for k in one.reweighed if k < evaluations)}
        self.phases = {first: _Phase(told, first) for first in sorted(firsts)}
        self.reusing = deep_cache.reuses(told, evaluations)
        _check_lengths(told, {0, *self.changes})

    def first_of(self, k: int) -> int:
        """The first evaluation of the phase that evaluation k belongs to."""
        return max(first for first in self.phases if first <= k)

    def phase_at(self, k: int) -> _Phase:
        """The phase that evaluation k belongs to."""
        return self.phases[self.first_of(k)]


class _Phase:
    """Evaluations, from the `first` on, that run the same rows with the same weights.

    R rows in all, G of the sample that has most. owners: [R], the sample of each row. guidance, rows: [B, G],
    weights of a sample's rows and where they are; unused ones weigh a row of their own.
    """

    def __init__(self, conditions: Sequence[Conditions], first: int) -> None:
        self.first = first
        self._conditions = conditions
        weights = [np.asarray(one.guidance_at(first), np.float32) for one in conditions]
        self._run = [np.flatnonzero(own).tolist() for own in weights]
        counts = [len(own) for own in self._run]
        batch, most = len(conditions), max(counts)
        self.owners: NDArray[np.int64] = np.repeat(np.arange(batch), counts)
        self.rows = np.repeat(np.cumsum([0, *counts[:-1]])[:, None], most, axis=1)
        self.guidance = np.zeros((batch, most), np.float32)
        for b, (own, run, count) in enumerate(zip(weights, self._run, counts, strict=True)):
            self.rows[b, :count] += np.arange(count)
            self.guidance[b, :count] = own[run]

    def told(self, k: int) -> dict[str, Array]:
        """What the rows are told at evaluation k and were not in the one before: [R, ...] by input name."""
        now = self._rows_at(k)
        before = self._rows_at(k - 1) if k > self.first else [{} for _ in now]
        return {
            name: np.stack([row[name] for row in now])
            for name in now[0]
            if any(row[name] is not old.get(name) for row, old in zip(now, before, strict=True))
        }

    def _rows_at(self, k: int) -> list[Row]:
        return [
            one.rows_at(k)[index]
            for one, run in zip(self._conditions, self._run, strict=True)
            for index in run
        ]


def _check_lengths(conditions: Sequence[Conditions], evaluations: Iterable[int]) -> None:
    """Rows share a batch, so their prompts are equally long."""
    rows = (row for k in evaluations for one in conditions for row in one.rows_at(k))
    lengths = sorted({len(row["encoder_hidden_states"]) for row in rows})
    if len(lengths) > 1:
        raise InputError(
            f"the prompts of one batch are {' and '.join(map(str, lengths))} tokens long; "
            "follow the shorter ones with empty chunks"
        )
