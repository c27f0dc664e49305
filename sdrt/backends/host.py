"""The CPU as a device: buffers are numpy arrays."""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import DTypeLike

from sdrt.backends.protocol import Array, Buffer
from sdrt.errors import ComputeError


class HostBuffer:
    """A contiguous numpy array with the interface of a buffer."""

    def __init__(self, array: Array) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements along each axis."""
        return self.array.shape

    @property
    def dtype(self) -> str:
        """Numpy's name of the element type."""
        return self.array.dtype.name

    @property
    def address(self) -> int:
        """Where the first element is."""
        return int(self.array.ctypes.data)


class HostDevice:
    """The CPU. Everything is done when the call returns, so `synchronize` has nothing to wait for."""

    name = "cpu"
    index = 0

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> HostBuffer:
        """A new buffer of undefined content. Raises ComputeError if memory runs out."""
        try:
            return HostBuffer(np.empty(shape, dtype))
        except (MemoryError, ValueError):  # numpy's ValueError: more than an address can count
            size = math.prod(shape) * np.dtype(dtype).itemsize
            raise ComputeError(
                f"out of memory: {size / 1e9:.1f} GB were wanted for a buffer; lower the size or the count"
            ) from None

    def upload(self, array: Array, buffer: Buffer) -> None:
        """Copy `array` into `buffer`."""
        np.copyto(_host(buffer), array)

    def download(self, buffer: Buffer) -> Array:
        """A copy of the buffer's content."""
        return _host(buffer).copy()

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def mark(self) -> float:
        """Now."""
        return time.perf_counter()

    def seconds(self, started: float, ended: float) -> float:
        """Between two moments."""
        return ended - started


def _host(buffer: Buffer) -> Array:
    if not isinstance(buffer, HostBuffer):
        raise TypeError(f"{type(buffer).__name__} is not in the memory of the CPU")
    return buffer.array
