"""The shape and type of a graph's input or output."""

from __future__ import annotations

import msgspec


class TensorSpec(msgspec.Struct, frozen=True):
    """What a graph expects or gives under one name.

    dtype: numpy's name, as in `float32`, `float16`, `int64`.
    shape: one entry per axis; a number is fixed, None is free.
    """

    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        axes = ", ".join("?" if axis is None else str(axis) for axis in self.shape)
        return f"{self.dtype}[{axes}]"
