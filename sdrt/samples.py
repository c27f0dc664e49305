"""What a picture to be is given: its sampler table, its prompts, its noise, and what it may not change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sdrt.backends import Array
from sdrt.errors import ComputeError
from sdrt.noise import NoiseGenerator
from sdrt.samplers import SamplerTable

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
