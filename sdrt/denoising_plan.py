"""What the host tells the device in the course of a run, laid out before the run begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sdrt.backends import Array
from sdrt.deep_cache import DeepCache
from sdrt.errors import InputError
from sdrt.samplers import COLUMNS, SLOTS
from sdrt.samples import Conditions, Row, Sample

IDENTITY = np.eye(SLOTS, COLUMNS, dtype=np.float32)
# after the last evaluation there is no noise
HELD_AT_THE_END = np.eye(SLOTS, 2, dtype=np.float32) * [1, 0]
_STANDING = np.array([1.0, 0.0])  # a picture that is done is its own prediction


class Plan:
    """What is uploaded, and when: B samples, E evaluations.

    A sample whose table is shorter than the longest stands still, with the identity for its matrix.
    hold: how much of its latents and noise a sample is held to after each evaluation. changes: the
    evaluations at which a row is told another thing than before. phases: by first evaluation.
    reusing: the evaluations that run the shallow graph.
    """

    def __init__(self, samples: Sequence[Sample], evaluations: int, deep_cache: DeepCache) -> None:
        batch = len(samples)
        self.matrices = np.tile(IDENTITY, (evaluations, batch, 1, 1))  # [E, B, SLOTS, COLUMNS]
        self.timesteps = np.zeros((evaluations, batch), np.float32)
        self.c_in = np.ones((evaluations + 1, batch, 1, 1, 1), np.float32)
        self.noisy = np.zeros((evaluations, batch), bool)
        self.hold = np.zeros((evaluations, batch, SLOTS, 2), np.float32)
        self.hold[:] = HELD_AT_THE_END
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
        self.phases = {first: Phase(told, first) for first in sorted(firsts)}
        self.reusing = deep_cache.reuses(told, evaluations)
        _check_lengths(told, {0, *self.changes})

    def first_of(self, k: int) -> int:
        """The first evaluation of the phase that evaluation k belongs to."""
        return max(first for first in self.phases if first <= k)

    def phase_at(self, k: int) -> Phase:
        """The phase that evaluation k belongs to."""
        return self.phases[self.first_of(k)]


class Phase:
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
