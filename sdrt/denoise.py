"""The denoising loop: network, step, network, step; the host only binds buffers.

Rows belong to samples: every sample of a batch has its own sampler table, timesteps, guidance and prompts,
so pictures that differ in all of these share one evaluation of the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sdrt import graphs
from sdrt.backends import Array, Backend, Buffer, Runtime
from sdrt.errors import ComputeError, InputError
from sdrt.noise import NoiseGenerator
from sdrt.samplers import COLUMNS, SLOTS, SamplerTable

Row = Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the network is told of one picture.

    rows: by input name, without the batch axis: encoder_hidden_states [L, D] and what else its graph takes.
    guidance: the weight of each row, so that the network's prediction is sum(guidance[r] * out[r]).
    changes: what all rows are told from an evaluation on, by its number; shapes stay the same.
    """

    rows: Sequence[Row]
    guidance: Sequence[float]
    changes: Mapping[int, Sequence[Row]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture to be.

    latents: where the run starts, [C, h, w] float32 in the sampler's own scale. noise: the stream that later
    noise comes from.
    """

    table: SamplerTable
    conditions: Conditions
    latents: Array
    noise: NoiseGenerator


def initial_latents(table: SamplerTable, noise: NoiseGenerator, shape: tuple[int, int, int]) -> Array:
    """Where a run from nothing but noise starts: [C, h, w] float32, the next of `noise`, scaled."""
    try:
        latents: Array = noise.randn((1, *shape))[0] * np.float32(table.initial_scale)
    except (MemoryError, ValueError):  # numpy's ValueError: more than an address can count
        wanted = 4e-9 * math.prod(shape)
        raise ComputeError(
            f"out of memory: {wanted:.1f} GB were wanted for the noise; lower the size or the count"
        ) from None
    return latents


class StepGraph:
    """The denoising step, loaded twice: one reads the state that the other has written, and back."""

    def __init__(self, runtime: Runtime, dtype: str) -> None:
        path = graphs.path("step", dtype)
        self.halves = tuple(runtime.load(path, small=True) for _ in range(2))

    def close(self) -> None:
        """Free both."""
        for half in self.halves:
            half.close()


class Denoising:
    """One batch on its way from noise to latents. Iterate over it to run it; it yields the evaluations done.

    shape: of one sample's latents, (C, h, w).
    """

    def __init__(
        self,
        runtime: Runtime,
        unet: Backend,
        step: StepGraph,
        samples: Sequence[Sample],
        shape: tuple[int, int, int],
    ) -> None:
        self._device = runtime.device
        self._unet = unet
        self._step = step
        self._samples = samples
        self._shape = shape
        self.evaluations = max(sample.table.evaluations for sample in samples)
        self._plan = _Plan(samples, self.evaluations)
        self._states = [self._empty((len(samples), SLOTS, *shape), "float32") for _ in range(2)]
        self._step_inputs = self._bind()

    @property
    def state(self) -> Buffer:
        """The final state once the loop has ended: [B, SLOTS, C, h, w] float32, the latents in slot 0."""
        return self._states[(self.evaluations + 1) % 2]

    def __iter__(self) -> Iterator[int]:
        plan, upload, inputs = self._plan, self._device.upload, self._step_inputs
        self._start()
        for k in range(self.evaluations):
            upload(plan.timesteps[k], inputs["timestep"])
            if k in plan.changes:
                for name, values in plan.told(k).items():
                    upload(values, inputs[name])
            self._unet.run()
            upload(plan.matrices[k], inputs["matrix"])
            upload(plan.c_in[k + 1], inputs["c_in"])
            if plan.noisy[k].any():
                upload(self._draw_noise(k), inputs["noise"])
            self._step.halves[(k + 1) % 2].run()
            yield k + 1
        self._device.synchronize()

    def _start(self) -> None:
        """Lay the first network input: a step whose matrix is the identity."""
        plan, upload, inputs = self._plan, self._device.upload, self._step_inputs
        state = np.zeros((len(self._samples), SLOTS, *self._shape), np.float32)
        for slots, sample in zip(state, self._samples, strict=True):
            slots[0] = sample.latents
        upload(state, self._states[0])
        # zero times what happens to lie in fresh memory could be NaN
        upload(np.zeros(inputs["out_sample"].shape, np.float32), inputs["out_sample"])
        upload(np.zeros(inputs["noise"].shape, np.float32), inputs["noise"])
        upload(np.broadcast_to(_IDENTITY, inputs["matrix"].shape), inputs["matrix"])
        upload(plan.c_in[0], inputs["c_in"])
        self._step.halves[0].run()

    def _draw_noise(self, k: int) -> Array:
        noise = np.zeros((len(self._samples), *self._shape), np.float32)
        for drawn, sample, noisy in zip(noise, self._samples, self._plan.noisy[k], strict=True):
            if noisy:
                drawn[:] = sample.noise.randn((1, *self._shape))[0]
        return noise

    def _bind(self) -> dict[str, Buffer]:
        plan, network = self._plan, self._unet.inputs["sample"].dtype
        batch, rows = len(self._samples), len(plan.owners)
        sample = self._empty((rows, *self._shape), network)
        conditions = {
            name: self._filled(values, self._unet.inputs[name].dtype) for name, values in plan.told(0).items()
        }
        timestep = self._empty((rows,), self._unet.inputs["timestep"].dtype)
        out_sample = self._empty((rows, *self._shape), self._unet.outputs["out_sample"].dtype)
        self._unet.bind(
            {
                "sample": sample,
                "timestep": timestep,
                **conditions,
                "out_sample": out_sample,
            }
        )
        shared = {
            "out_sample": out_sample,
            "noise": self._empty((batch, *self._shape), "float32"),
            "matrix": self._empty((batch, SLOTS, COLUMNS), "float32"),
            "guidance": self._filled(plan.guidance, "float32"),
            "rows": self._filled(plan.rows, "int64"),
            "owners": self._filled(plan.owners, "int64"),
            "c_in": self._empty((batch, 1, 1, 1), "float32"),
            "sample": sample,
        }
        for half, read, write in zip(self._step.halves, self._states, reversed(self._states), strict=True):
            half.bind({**shared, "state": read, "next_state": write})
        return {**shared, **conditions, "timestep": timestep}

    def _empty(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return self._device.empty(shape, dtype)

    def _filled(self, array: Array, dtype: str) -> Buffer:
        buffer = self._empty(array.shape, dtype)
        self._device.upload(array, buffer)
        return buffer


_IDENTITY = np.eye(SLOTS, COLUMNS, dtype=np.float32)


class _Plan:
    """What the host uploads: B samples, R rows in all, E evaluations, G rows of the sample that has most.

    A sample whose table is shorter than the longest stands still, with the identity for its matrix.
    changes: the evaluations at which a row is told another thing than before.
    """

    def __init__(self, samples: Sequence[Sample], evaluations: int) -> None:
        counts = [len(sample.conditions.guidance) for sample in samples]
        first_rows = np.cumsum([0, *counts[:-1]])
        batch, most = len(samples), max(counts)
        self.owners: NDArray[np.int64] = np.repeat(np.arange(batch), counts)  # [R]
        self.rows = np.repeat(
            first_rows[:, None], most, axis=1
        )  # [B, G]; unused ones weigh a row of their own
        self.guidance = np.zeros((batch, most), np.float32)  # [B, G]
        self.matrices = np.tile(_IDENTITY, (evaluations, batch, 1, 1))  # [E, B, SLOTS, COLUMNS]
        self.timesteps = np.zeros((evaluations, len(self.owners)), np.float32)  # [E, R]
        self.c_in = np.ones((evaluations + 1, batch, 1, 1, 1), np.float32)
        self.noisy = np.zeros((evaluations, batch), bool)  # [E, B]
        self._samples = samples
        self.changes = {k for sample in samples for k in sample.conditions.changes}
        self._check_lengths()
        for b, (sample, count) in enumerate(zip(samples, counts, strict=True)):
            table, own = sample.table, self.owners == b
            length = table.evaluations
            self.rows[b, :count] += np.arange(count)
            self.guidance[b, :count] = sample.conditions.guidance
            self.matrices[:length, b] = table.matrices
            self.timesteps[:length, own] = table.timesteps[:, None]
            self.timesteps[length:, own] = table.timesteps[-1]
            self.c_in[:length, b, 0, 0, 0] = table.c_in
            self.noisy[:length, b] = table.noisy

    def told(self, k: int) -> dict[str, Array]:
        """What all rows are told at evaluation k and were not before: [R, ...] by input name."""
        now = self._rows_at(k)
        before = self._rows_at(k - 1) if k else [{} for _ in now]
        return {
            name: np.stack([row[name] for row in now])
            for name in now[0]
            if any(row[name] is not old.get(name) for row, old in zip(now, before, strict=True))
        }

    def _rows_at(self, k: int) -> list[Row]:
        return [row for sample in self._samples for row in _latest(sample.conditions, k)]

    def _check_lengths(self) -> None:
        """Rows share a batch, so their prompts are equally long."""
        rows = (row for k in (0, *self.changes) for row in self._rows_at(k))
        lengths = sorted({len(row["encoder_hidden_states"]) for row in rows})
        if len(lengths) > 1:
            raise InputError(
                f"the prompts of one batch are {' and '.join(map(str, lengths))} tokens long; "
                "follow the shorter ones with empty chunks"
            )


def _latest(conditions: Conditions, k: int) -> Sequence[Row]:
    last = max((change for change in conditions.changes if change <= k), default=None)
    return conditions.rows if last is None else conditions.changes[last]
