"""An NVIDIA GPU as a device: buffers, one stream, and work that is captured once and replayed."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from sdrt.backends.cuda_calls import Cuda
from sdrt.backends.cuda_memory import DeviceMemory, PinnedUploads
from sdrt.backends.protocol import Array, Buffer
from sdrt.errors import ComputeError


class CudaBuffer:
    """Memory on the GPU; given back with the last reference."""

    def __init__(self, memory: DeviceMemory, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype.name
        self.size = math.prod(shape) * dtype.itemsize  # bytes
        self._memory = memory
        self.address = memory.take(self.size)

    def __del__(self) -> None:
        if hasattr(self, "address"):  # else there was no memory
            self._memory.give_back(self.address, self.size)


class Moment:
    """An event that CUDA takes the time of, recorded behind what is queued."""

    def __init__(self, cuda: Cuda, stream: Any) -> None:
        runtime = cuda.runtime
        self.event = cuda.check(runtime.cudaEventCreateWithFlags(runtime.cudaEventDefault), "making an event")
        weakref.finalize(self, runtime.cudaEventDestroy, self.event)
        cuda.check(runtime.cudaEventRecord(self.event, stream), "recording an event")


class CapturedWork:
    """A CUDA graph: what was queued while it was captured, queued again at once by `launch`.

    It keeps the addresses of everything that it reads and writes, but no reference.
    """

    def __init__(self, cuda: Cuda, stream: Any, graph: Any) -> None:
        self._cuda, self._stream, self._graph = cuda, stream, graph
        weakref.finalize(self, cuda.runtime.cudaGraphExecDestroy, graph)

    def launch(self) -> None:
        """Queue it. Raises ComputeError if CUDA refuses."""
        self._cuda.check(self._cuda.runtime.cudaGraphLaunch(self._graph, self._stream), "replaying a graph")


class CudaDevice:
    """One GPU: the first that CUDA shows, CUDA_VISIBLE_DEVICES chooses which that is.

    stream: all work is queued on it; `int(stream)` is the handle that libraries take. architecture: as in
    `sm90`.
    """

    name = "cuda"
    index = 0

    def __init__(self, extra: str = "cuda") -> None:
        """extra: of sdrt, to name if cuda-python is missing.

        Raises MissingExtraError, BackendUnavailableError.
        """
        self._cuda = cuda = Cuda(extra)
        runtime, attributes = cuda.runtime, cuda.runtime.cudaDeviceAttr
        cuda.check(runtime.cudaSetDevice(self.index), "opening the GPU")
        parts = (attributes.cudaDevAttrComputeCapabilityMajor, attributes.cudaDevAttrComputeCapabilityMinor)
        self.architecture = "sm" + "".join(
            str(cuda.check(runtime.cudaDeviceGetAttribute(part, self.index), "asking for the architecture"))
            for part in parts
        )
        flags = runtime.cudaStreamNonBlocking
        self.stream = cuda.check(runtime.cudaStreamCreateWithFlags(flags), "making a stream")
        weakref.finalize(self, runtime.cudaStreamDestroy, self.stream)
        self._memory = DeviceMemory(cuda)
        self._uploads = PinnedUploads(cuda, self.stream)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> CudaBuffer:
        """A new buffer of undefined content. Raises ComputeError if memory runs out."""
        return CudaBuffer(self._memory, shape, np.dtype(dtype))

    def upload(self, array: Array, buffer: Buffer) -> None:
        """Queue a copy of `array` (same shape, converted to the buffer's dtype) into `buffer`."""
        buffer = _on_gpu(buffer)
        if array.shape != buffer.shape:
            raise ValueError(f"an array of shape {array.shape} does not fit a buffer of shape {buffer.shape}")
        self._uploads.copy(np.asarray(array, buffer.dtype, order="C"), buffer.address)

    def download(self, buffer: Buffer) -> Array:
        """Wait for the queue, then return a copy on the host. Raises ComputeError if queued work failed."""
        buffer, kind = _on_gpu(buffer), self._cuda.runtime.cudaMemcpyKind
        array = np.empty(buffer.shape, buffer.dtype)
        answer = self._cuda.runtime.cudaMemcpyAsync(
            array.ctypes.data, buffer.address, array.nbytes, kind.cudaMemcpyDeviceToHost, self.stream
        )
        self._cuda.check(answer, "copying from the GPU")
        self.synchronize()
        return array

    def synchronize(self) -> None:
        """Wait until all queued work is done. Raises ComputeError if some of it failed."""
        self._cuda.check(self._cuda.runtime.cudaStreamSynchronize(self.stream), "computing")

    def mark(self) -> Moment:
        """When the work that is queued now will be done."""
        return Moment(self._cuda, self.stream)

    def seconds(self, started: Moment, ended: Moment) -> float:
        """Between two moments, both of which have come; to half a microsecond."""
        elapsed = self._cuda.runtime.cudaEventElapsedTime(started.event, ended.event)
        return float(self._cuda.check(elapsed, "asking for the time")) / 1000

    def free_unused(self) -> None:
        """Free memory that no buffer has any more; waits for all queued work."""
        self._memory.trim()

    def capture(self, work: Callable[[], None]) -> CapturedWork | None:
        """What `work` queues, without running it; None if it cannot be captured.

        It must have been queued once before, so that libraries have nothing left to allocate.
        """
        cuda, runtime = self._cuda, self._cuda.runtime
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        cuda.check(runtime.cudaStreamBeginCapture(self.stream, mode), "capturing a graph")
        try:
            work()
            refused = False
        except ComputeError:
            refused = True
        finally:
            error, graph = runtime.cudaStreamEndCapture(self.stream)
        if refused or error:
            cuda.forget_error()
            return None
        executable = cuda.check(runtime.cudaGraphInstantiate(graph, 0), "making a graph")
        cuda.check(runtime.cudaGraphDestroy(graph), "making a graph")
        return CapturedWork(cuda, self.stream, executable)


def _on_gpu(buffer: Buffer) -> CudaBuffer:
    if not isinstance(buffer, CudaBuffer):
        raise TypeError(f"{type(buffer).__name__} is not in the memory of the GPU")
    return buffer
