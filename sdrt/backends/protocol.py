"""What a backend and a device are: the only two things the pipeline knows of the hardware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import DTypeLike, NDArray

from sdrt.tensors import TensorSpec

Array = NDArray[Any]


class Buffer(Protocol):
    """Memory on a device, owned by whoever asked for it and freed with the last reference.

    Its address never changes. Work on a device is asynchronous: what a graph wrote may be read, and what it
    reads may be overwritten, after `Device.synchronize` or by a graph that is queued later.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements along each axis."""
        ...

    @property
    def dtype(self) -> str:
        """Numpy's name of the element type."""
        ...

    @property
    def address(self) -> int:
        """Where the first element is; elements are contiguous in row-major order."""
        ...


class Device(Protocol):
    """Where buffers live."""

    name: str  # as execution providers call it: `cpu`, `cuda`
    index: int

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Buffer:
        """A new buffer of undefined content. Raises ComputeError if memory runs out."""
        ...

    def upload(self, array: Array, buffer: Buffer) -> None:
        """Queue a copy of `array` (same shape, converted to the buffer's dtype) into `buffer`."""
        ...

    def download(self, buffer: Buffer) -> Array:
        """Wait for the queue, then return a copy on the host."""
        ...

    def synchronize(self) -> None:
        """Wait until all queued work is done."""
        ...

    def mark(self) -> Any:
        """A moment: when the work that is queued now will be done."""
        ...

    def seconds(self, started: Any, ended: Any) -> float:
        """Between two moments, both of which have come."""
        ...


class Backend(Protocol):
    """One loaded graph."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    def bind(self, buffers: Mapping[str, Buffer]) -> None:
        """Use these buffers, one for each input and output, in every later `run` until rebound.

        The backend keeps the addresses. Whoever binds keeps the buffers, as long as it runs the graph.
        """
        ...

    def run(self) -> None:
        """Queue one execution over the bound buffers. Raises ComputeError if it fails."""
        ...

    def close(self) -> None:
        """Free the graph; no other method may be called after."""
        ...
