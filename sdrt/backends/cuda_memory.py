"""Memory for CUDA: blocks on the GPU that are used again, and pinned blocks that uploads pass through."""

from __future__ import annotations

import ctypes
import heapq
import weakref
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sdrt.backends.cuda_calls import Cuda
from sdrt.backends.protocol import Array
from sdrt.errors import ComputeError

_ALIGNMENT = 512  # bytes; sizes are rounded up to it, so that nearly equal ones share blocks
_SMALLEST_PINNED = 4096
_MOST_PINNED = 256 * 2**20  # bytes; beyond, an upload waits for earlier ones


class DeviceMemory:
    """Blocks of one GPU. What is given back is kept, because cudaFree waits for all queued work.

    All work is on one stream, so a block may be used again while its last reader is still queued. Of the
    unused blocks of a size the first that was ever allocated is taken: whoever asks for the same sizes in the
    same order gets the same addresses, which is what captured work needs.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._unused: dict[int, list[tuple[int, int]]] = {}  # by size: heaps of numbers and addresses
        self._numbers: dict[int, int] = {}  # of addresses, in the order of their allocation
        weakref.finalize(self, _free, cuda, self._unused)

    def take(self, size: int) -> int:
        """The address of a block of at least `size` bytes. Raises ComputeError if there is no memory left."""
        size = _rounded(size)
        unused = self._unused.get(size)
        if unused:
            return heapq.heappop(unused)[1]
        address = self._allocate(size)
        self._numbers[address] = len(self._numbers)
        return address

    def give_back(self, address: int, size: int) -> None:
        """Nobody will queue work on this block any more."""
        heapq.heappush(self._unused.setdefault(_rounded(size), []), (self._numbers[address], address))

    def trim(self) -> None:
        """Free what is unused; waits for all queued work."""
        _free(self._cuda, self._unused)

    def _allocate(self, size: int) -> int:
        cuda, runtime = self._cuda, self._cuda.runtime
        error, address = runtime.cudaMalloc(size)
        if cuda.out_of_memory(error) and any(self._unused.values()):
            cuda.forget_error()
            self.trim()
            error, address = runtime.cudaMalloc(size)
        if cuda.out_of_memory(error):
            cuda.forget_error()
            free, total = cuda.check(runtime.cudaMemGetInfo(), "asking for free memory")
            raise ComputeError(
                f"out of memory: {size / 1e9:.1f} GB were wanted on the GPU, where {free / 1e9:.1f} of "
                f"{total / 1e9:.1f} GB are free; lower the width and height or the count"
            )
        return int(cuda.check((error, address), "allocating memory"))


def _rounded(size: int) -> int:
    return max(-(-size // _ALIGNMENT), 1) * _ALIGNMENT


def _free(cuda: Cuda, unused: dict[int, list[tuple[int, int]]]) -> None:
    for blocks in unused.values():
        for _, address in blocks:
            cuda.runtime.cudaFree(address)
    unused.clear()


@dataclass(frozen=True)
class _Pinned:
    """Memory of the host that the GPU reads by itself. done: an event, behind its last copy."""

    address: int
    size: int
    done: Any


class PinnedUploads:
    """Queues copies to the GPU from blocks that nobody writes to before the copy is done."""

    def __init__(self, cuda: Cuda, stream: Any) -> None:
        self._cuda, self._stream = cuda, stream
        self._unused: dict[int, list[_Pinned]] = {}
        self._queued: deque[_Pinned] = deque()
        weakref.finalize(self, _release, cuda, self._unused, self._queued)

    def copy(self, array: Array, address: int) -> None:
        """Queue a copy of a contiguous array; it may be written to at once."""
        cuda, runtime, kind = self._cuda, self._cuda.runtime, self._cuda.runtime.cudaMemcpyKind
        block = self._block(array.nbytes)
        ctypes.memmove(block.address, array.ctypes.data, array.nbytes)
        self._queued.append(block)
        cuda.check(
            runtime.cudaMemcpyAsync(
                address, block.address, array.nbytes, kind.cudaMemcpyHostToDevice, self._stream
            ),
            "copying to the GPU",
        )
        cuda.check(runtime.cudaEventRecord(block.done, self._stream), "copying to the GPU")

    def _block(self, size: int) -> _Pinned:
        size = max(1 << (size - 1).bit_length(), _SMALLEST_PINNED)
        self._reclaim()
        if sum(block.size for block in self._queued) + size > _MOST_PINNED and self._queued:
            self._cuda.check(self._cuda.runtime.cudaEventSynchronize(self._queued[-1].done), "waiting")
            self._reclaim()
        unused = self._unused.get(size)
        return unused.pop() if unused else self._allocate(size)

    def _reclaim(self) -> None:
        while self._queued and not self._cuda.runtime.cudaEventQuery(self._queued[0].done)[0]:
            block = self._queued.popleft()
            self._unused.setdefault(block.size, []).append(block)

    def _allocate(self, size: int) -> _Pinned:
        cuda, runtime = self._cuda, self._cuda.runtime
        error, address = runtime.cudaHostAlloc(size, runtime.cudaHostAllocDefault)
        if cuda.out_of_memory(error):
            cuda.forget_error()
            raise ComputeError(
                f"out of memory: {size / 1e9:.1f} GB of pinned memory were wanted for an upload; lower the "
                "width and height or the count"
            )
        cuda.check((error, address), "allocating pinned memory")
        event = cuda.check(
            runtime.cudaEventCreateWithFlags(runtime.cudaEventDisableTiming), "making an event"
        )
        return _Pinned(int(address), size, event)


def _release(cuda: Cuda, unused: dict[int, list[_Pinned]], queued: Iterable[_Pinned]) -> None:
    for block in queued:
        cuda.runtime.cudaEventSynchronize(block.done)
    for block in (*queued, *(block for blocks in unused.values() for block in blocks)):
        cuda.runtime.cudaEventDestroy(block.done)
        cuda.runtime.cudaFreeHost(block.address)
