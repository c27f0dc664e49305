"""A GPU made of numpy memory: the calls of `cuda.bindings.runtime` that sdrt makes, and no others.

What is queued waits until something synchronizes, as late as a GPU might do it: a host buffer that is used
again too early, or memory freed too early, shows. Fresh and freed memory is full of NaN.
"""

from __future__ import annotations

import ctypes
import enum
import sys
import time
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

_BEHIND = 512  # alignment of what CUDA allocates


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaDeviceAttr(enum.IntEnum):
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


class Event:
    def __init__(self) -> None:
        self.done = True


class Graph(list[Callable[[], None]]):
    """Captured work; alive while an executable of it is."""

    alive = False


_OK = cudaError_t.cudaSuccess
_WORDS = {
    cudaError_t.cudaErrorMemoryAllocation: b"out of memory",
    cudaError_t.cudaErrorInsufficientDriver: b"CUDA driver version is insufficient for CUDA runtime version",
    cudaError_t.cudaErrorIllegalAddress: b"an illegal memory access was encountered",
}


class FakeCuda:
    """One GPU. total: bytes of memory. counts: of calls by name. fails: queued work ends with this error."""

    def __init__(self, *, total: int = 2**31, architecture: tuple[int, int] = (9, 0)) -> None:
        self.total, self.architecture = total, architecture
        self.counts: Counter[str] = Counter()
        self.memory: dict[int, np.ndarray[Any, Any]] = {}
        self.pinned: dict[int, np.ndarray[Any, Any]] = {}
        self.error = self.fails = _OK
        self.capture: Graph | None = None
        self._queue: list[Callable[[], None]] = []

    def module(self) -> ModuleType:
        """What `cuda.bindings.runtime` is in its place."""
        module = ModuleType("cuda.bindings.runtime")
        for name in dir(self):
            if name.startswith("cuda"):
                setattr(module, name, self._counted(name))
        for kind in (cudaError_t, cudaMemcpyKind, cudaDeviceAttr, cudaStreamCaptureMode):
            setattr(module, kind.__name__, kind)
        module.cudaStreamNonBlocking, module.cudaEventDisableTiming = 1, 2
        module.cudaHostAllocDefault = module.cudaEventDefault = 0
        return module

    def _counted(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.counts[name] += 1
            return getattr(self, name)(*arguments)

        return call

    def enqueue(self, work: Callable[[], None]) -> None:
        """What any library does with a stream."""
        (self._queue if self.capture is None else self.capture).append(work)

    def finish(self) -> None:
        """Do all that is queued."""
        assert self.capture is None, "a stream that is captured cannot be waited for"
        while self._queue:
            self._queue.pop(0)()

    def view(self, address: int, size: int) -> np.ndarray[Any, Any]:
        """The bytes at an address of the GPU; they must lie within one allocation."""
        for start, block in self.memory.items():
            if start <= address and address + size <= start + block.nbytes:
                return block[address - start : address - start + size]
        raise AssertionError(f"{size} bytes at {address:#x} are not allocated")

    @property
    def used(self) -> int:
        return sum(block.nbytes for block in self.memory.values())

    # what follows is named and behaves as in CUDA

    def cudaGetDeviceCount(self):
        return (self.error, 1) if self.error == _OK else (self.error, None)

    def cudaSetDevice(self, device):
        return (_OK,)

    def cudaDeviceGetAttribute(self, attr, device):
        return _OK, self.architecture[attr - cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor]

    def cudaGetErrorName(self, error):
        return _OK, error.name.encode()

    def cudaGetErrorString(self, error):
        return _OK, _WORDS.get(error, b"an error")

    def cudaGetLastError(self):
        return (_OK,)

    def cudaMemGetInfo(self):
        return _OK, self.total - self.used, self.total

    def cudaMalloc(self, size):
        if self.capture is not None:
            return cudaError_t.cudaErrorStreamCaptureUnsupported, None
        if self.used + size > self.total:
            return cudaError_t.cudaErrorMemoryAllocation, None
        address, block = _aligned(size)
        self.memory[address] = block
        return _OK, address

    def cudaFree(self, devPtr):
        self.finish()
        self.memory.pop(devPtr).fill(0xFF)
        return (_OK,)

    def cudaHostAlloc(self, size, flags):
        address, block = _aligned(size)
        self.pinned[address] = block
        return _OK, address

    def cudaFreeHost(self, ptr):
        del self.pinned[ptr]
        return (_OK,)

    def cudaMemcpyAsync(self, dst, src, count, kind, stream):
        to_gpu = kind == cudaMemcpyKind.cudaMemcpyHostToDevice
        if to_gpu:
            assert src in self.pinned, "only pinned memory is copied from asynchronously"
        self.view(dst if to_gpu else src, count)
        self.enqueue(lambda: (self.view(dst if to_gpu else src, count), ctypes.memmove(dst, src, count)))
        return (_OK,)

    def cudaStreamCreateWithFlags(self, flags):
        return _OK, 7

    def cudaStreamDestroy(self, stream):
        return (_OK,)

    def cudaStreamSynchronize(self, stream):
        self.finish()
        return (self.fails,)

    def cudaEventCreateWithFlags(self, flags):
        return _OK, Event()

    def cudaEventDestroy(self, event):
        return (_OK,)

    def cudaEventRecord(self, event, stream):
        event.done = False

        def happen():
            event.done, event.time = True, time.perf_counter()

        self.enqueue(happen)
        return (_OK,)

    def cudaEventElapsedTime(self, start, end):
        ready = start.done and end.done
        return (_OK, 1000 * (end.time - start.time)) if ready else (cudaError_t.cudaErrorNotReady, 0.0)

    def cudaEventQuery(self, event):
        return (_OK if event.done else cudaError_t.cudaErrorNotReady,)

    def cudaEventSynchronize(self, event):
        while not event.done:
            self._queue.pop(0)()
        return (_OK,)

    def cudaStreamBeginCapture(self, stream, mode):
        self.capture = Graph()
        return (_OK,)

    def cudaStreamEndCapture(self, stream):
        captured, self.capture = self.capture, None
        return _OK, captured

    def cudaGraphInstantiate(self, graph, flags):
        graph.alive = True
        return _OK, graph

    def cudaGraphDestroy(self, graph):
        return (_OK,)

    def cudaGraphLaunch(self, graphExec, stream):
        assert graphExec.alive
        for work in graphExec:
            self.enqueue(work)
        return (_OK,)

    def cudaGraphExecDestroy(self, graphExec):
        graphExec.alive = False
        return (_OK,)


def _aligned(size: int) -> tuple[int, np.ndarray[Any, Any]]:
    whole = np.full(size + _BEHIND, 0xFF, np.uint8)
    start = -whole.ctypes.data % _BEHIND
    block = whole[start : start + size]
    return block.ctypes.data, block


def install(monkeypatch, cuda: FakeCuda) -> None:
    """Let `import cuda.bindings.runtime` find it."""
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda.module())
