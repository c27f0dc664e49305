"""One TensorRT engine in memory: bound to buffers, run once, then captured as a CUDA graph and replayed."""

from __future__ import annotations

import contextlib
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sdrt.backends.cuda import CapturedWork, CudaBuffer, CudaDevice
from sdrt.backends.failures import no_memory_to_load
from sdrt.backends.protocol import Buffer
from sdrt.backends.tensorrt_library import Complaints, is_out_of_memory
from sdrt.engines import Engine
from sdrt.errors import ComputeError, EngineError

if TYPE_CHECKING:
    import tensorrt as trt

Key = tuple[tuple[str, tuple[int, ...], int], ...]  # names, shapes and addresses that a context is set to
# Contexts of one engine: buffers of equal batches have one of two sets of addresses, for one batch is there
# while the next one is laid out, and guidance for a part of the steps makes up to three sets of each.
_CONTEXTS = 8


class Activations:
    """Memory for what engines compute on the way: one block, as large as the largest of them wants.

    They take turns on one stream, and none has anything left in it when the next one starts.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._block: CudaBuffer | None = None

    def reserve(self, size: int) -> None:
        """Have at least so many bytes. Raises ComputeError if there is no memory left."""
        if size > self.size:
            self._block = None
            self._device.free_unused()
            self._block = self._device.empty((size,), "uint8")

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self._block.size if self._block else 0

    @property
    def address(self) -> int:
        """Where they are; another place after a larger engine was loaded."""
        return self._block.address if self._block else 0


class _Context:
    """An execution context that is set to one set of buffers, and what was captured of it.

    TensorRT forbids to change a context while a graph that was captured from it is in use, hence one context
    for each set of buffers. activations: the address that it has.
    """

    def __init__(self, context: trt.IExecutionContext) -> None:
        self.context = context
        self.activations = -1
        self.runs = 0  # since it was set
        self.captured: CapturedWork | None = None
        self.can_be_captured = True

    def changed(self) -> None:
        """Before it is set to something else: forget what was captured."""
        self.captured, self.runs = None, 0


class TensorRTEngine:
    """An engine's `bind`, `run` and `close`, as those of a backend."""

    def __init__(
        self,
        loaded: trt.ICudaEngine,
        record: Engine,
        path: Path,
        device: CudaDevice,
        activations: Activations,
        complaints: Complaints,
    ) -> None:
        self._engine, self._path = loaded, path
        self._device, self._activations, self._complaints = device, activations, complaints
        self._inputs, self._outputs = record.signature
        self._check_names()
        activations.reserve(loaded.device_memory_size_v2)
        self._contexts: OrderedDict[Key, _Context] = OrderedDict()  # the last bound is the last
        self._now: _Context | None = None
        self._bound: list[weakref.ref[Buffer]] = []

    def bind(self, buffers: Mapping[str, Buffer]) -> None:
        """Read from and write to `buffers` from now on.

        Whoever binds keeps them: were they kept here, the next picture's would have to lie elsewhere, and
        nothing that was captured would ever be of use again.
        Raises ComputeError if an output has another shape than TensorRT gives.
        """
        used = {name: buffers[name] for name in (*self._inputs, *self._outputs)}
        key = tuple((name, buffer.shape, buffer.address) for name, buffer in used.items())
        if key not in self._contexts:
            self._contexts[key] = self._context_for(used)
        self._contexts.move_to_end(key)
        self._now, self._bound = self._contexts[key], [weakref.ref(buffer) for buffer in used.values()]

    def run(self) -> None:
        """Queue one execution: the first as it is, which lets TensorRT prepare; then captured and replayed.

        Raises ComputeError naming the plan.
        """
        now = self._now
        assert now is not None, "bind first"
        assert all(buffer() is not None for buffer in self._bound), "a buffer that is bound was let go"
        if now.activations != self._activations.address:
            now.changed()
            now.context.set_device_memory(self._activations.address, self._activations.size)
            now.activations = self._activations.address
        if now.captured is None and now.runs and now.can_be_captured:
            now.captured = self._device.capture(lambda: self._enqueue(now.context))
            now.can_be_captured = now.captured is not None
        if now.captured is not None:
            now.captured.launch()
        else:
            self._enqueue(now.context)
        now.runs += 1

    def close(self) -> None:
        """Free it, once its queued work is done, or has failed."""
        with contextlib.suppress(ComputeError):
            self._device.synchronize()
        self._contexts.clear()
        self._now, self._bound = None, []
        del self._engine

    def _enqueue(self, context: trt.IExecutionContext) -> None:
        if not context.execute_async_v3(int(self._device.stream)):
            raise ComputeError(f"{self._path} failed in TensorRT: {self._complaints.take()}")

    def _context_for(self, buffers: Mapping[str, Buffer]) -> _Context:
        """A new context, or the one that was bound longest ago, set to these buffers."""
        if len(self._contexts) < _CONTEXTS:
            one = _Context(self._new_context())
        else:
            _, one = self._contexts.popitem(last=False)
            one.changed()
        context = one.context
        for name in self._inputs:
            if not context.set_input_shape(name, buffers[name].shape):
                raise ComputeError(
                    f"{self._path} failed in TensorRT: {name} of shape {list(buffers[name].shape)}: "
                    f"{self._complaints.take()}"
                )
        for name, buffer in buffers.items():
            context.set_tensor_address(name, buffer.address)
        for name in self._outputs:
            shape = context.get_tensor_shape(name)
            given = tuple(shape[axis] for axis in range(len(shape)))
            if given != buffers[name].shape:
                raise ComputeError(
                    f"{self._path} failed in TensorRT: it gives {name} of shape {list(given)}, the "
                    f"buffer has {list(buffers[name].shape)}"
                )
        return one

    def _new_context(self) -> trt.IExecutionContext:
        import tensorrt as trt

        context = self._engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            said = self._complaints.take()
            if is_out_of_memory(said):
                raise no_memory_to_load(self._path)
            raise EngineError(f"TensorRT cannot run {self._path}: {said}")
        # engines are built so that they can be inspected, which would cost time in each run
        context.nvtx_verbosity = trt.ProfilingVerbosity.NONE
        return context

    def _check_names(self) -> None:
        engine = self._engine
        found = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        said = {*self._inputs, *self._outputs}
        if found != said:
            raise EngineError(
                f"{self._path} has inputs and outputs {', '.join(sorted(found))}; its record says "
                f"{', '.join(sorted(said))}: build it again"
            )
