"""Devices by way of PyTorch: buffers are tensors; on CUDA all work is queued on one stream."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from sdrt.backends.protocol import Array, Buffer
from sdrt.backends.torch_failures import first_line
from sdrt.errors import ComputeError

if TYPE_CHECKING:
    import torch


class TorchBuffer:
    """A contiguous tensor with the interface of a buffer."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements along each axis."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> str:
        """Numpy's name of the element type."""
        return str(self.tensor.dtype).removeprefix("torch.")

    @property
    def address(self) -> int:
        """Where the first element is."""
        return self.tensor.data_ptr()


class TorchDevice:
    """`cuda` or `cpu`.

    Memory of a GPU is allocated, written, read and freed in the order of one stream, so nothing here waits
    but `download` and `synchronize`.
    cuda_graphs: whether repeated work is captured and replayed; without, its kernels are queued one by one.
    """

    def __init__(self, device: str, *, cuda_graphs: bool = True) -> None:
        import torch

        self._torch = torch
        self.name = device
        self._cuda_graphs = cuda_graphs
        self.index = torch.cuda.current_device() if device == "cuda" else 0
        self._device = torch.device(device, self.index)
        self._stream: torch.cuda.Stream | None = None
        if device == "cuda":
            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        # graphs run one after the other, and what they leave is copied out: their scratch memory may be one
        self._pool = torch.cuda.graph_pool_handle() if device == "cuda" else None

    def queueing(self) -> contextlib.AbstractContextManager[object]:
        """Within it PyTorch queues on this device's stream."""
        if self._stream is None:
            return contextlib.nullcontext()
        return self._torch.cuda.stream(self._stream)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> TorchBuffer:
        """A new buffer of undefined content. Raises ComputeError if memory runs out."""
        kind = np.dtype(dtype)
        try:
            with self.queueing():
                tensor = self._torch.empty(shape, dtype=getattr(self._torch, kind.name), device=self._device)
        except RuntimeError:  # of memory: a shape and a dtype are all that was asked for
            size = math.prod(shape) * kind.itemsize
            raise ComputeError(
                f"out of memory: {size / 1e9:.1f} GB were wanted for a buffer; lower the size or the count"
            ) from None
        return TorchBuffer(tensor)

    def upload(self, array: Array, buffer: Buffer) -> None:
        """Queue a copy of `array` into `buffer`, by way of pinned memory that nobody waits for."""
        tensor = tensor_of(buffer)
        if self._stream is None:
            np.copyto(tensor.numpy(), array)
            return
        with self.queueing():
            staged = self._torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            np.copyto(staged.numpy(), array)
            tensor.copy_(staged, non_blocking=True)

    def download(self, buffer: Buffer) -> Array:
        """Wait for the queue, then return a copy on the host."""
        with self.queueing():
            copy: Array = tensor_of(buffer).to("cpu", copy=True).numpy()
        return copy

    def synchronize(self) -> None:
        """Wait until all queued work is done."""
        if self._stream is not None:
            self._stream.synchronize()

    def mark(self) -> Any:
        """When the work that is queued now will be done."""
        if self._stream is None:
            return time.perf_counter()
        event = self._torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event

    def seconds(self, started: Any, ended: Any) -> float:
        """Between two moments, both of which have come."""
        if self._stream is None:
            return float(ended - started)
        return float(started.elapsed_time(ended)) / 1e3

    def repeated(self, work: Callable[[], None]) -> Repeated:
        """`work`, which queues the same over the same memory each time, made quick to queue."""
        return Repeated(self, work)

    def capture(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        """What `work` queues, as a CUDA graph; None on the CPU, and without `cuda_graphs`.

        Raises RuntimeError if something in it cannot be captured.
        """
        if self._stream is None or not self._cuda_graphs:
            return None
        graph = self._torch.cuda.CUDAGraph()
        with self.queueing():
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
            finally:
                graph.capture_end()
        return graph


class Repeated:
    """Work that is queued call by call the first time, which loads its kernels, then as one CUDA graph.

    captured: it is one, and needs nothing any more but the memory at its addresses.
    """

    def __init__(self, device: TorchDevice, work: Callable[[], None]) -> None:
        self._device = device
        self._work: Callable[[], None] | None = work
        self._graph: torch.cuda.CUDAGraph | None = None
        self._runs = 0

    @property
    def captured(self) -> bool:
        """Whether `run` replays a CUDA graph."""
        return self._graph is not None

    def run(self) -> None:
        """Queue it once."""
        if self._runs == 1 and self._work is not None:
            self._capture(self._work)
        self._runs += 1
        with self._device.queueing():
            if self._graph is not None:
                self._graph.replay()
            elif self._work is not None:
                self._work()

    def _capture(self, work: Callable[[], None]) -> None:
        try:
            self._graph = self._device.capture(work)
        except RuntimeError as error:
            warnings.warn(f"not captured as a CUDA graph, hence slower: {first_line(error)}", stacklevel=3)
        if self._graph is not None:
            self._work = None  # and with it the tensors


def tensor_of(buffer: Buffer) -> torch.Tensor:
    """The memory of a buffer on a TorchDevice."""
    if not isinstance(buffer, TorchBuffer):
        raise TypeError(f"{type(buffer).__name__} is not in the memory of a PyTorch device")
    return buffer.tensor
