"""The OpenVINO backend, on the CPU: float32, or bfloat16 where the CPU multiplies it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

from sdrt.backends.failures import no_memory_to_load, one_line
from sdrt.backends.graph_runtime import GraphRuntime
from sdrt.backends.host import HostBuffer, HostDevice
from sdrt.backends.openvino_angles import Waves, cut_waves
from sdrt.backends.protocol import Array, Buffer
from sdrt.backends.signal_stack import kept_signal_stack
from sdrt.errors import BackendUnavailableError, BundleError, ComputeError, MissingExtraError
from sdrt.onnx_initializers import missing_weight
from sdrt.onnx_signature import read_signature
from sdrt.saved_graphs import SavedGraph
from sdrt.tensors import TensorSpec

if TYPE_CHECKING:
    import openvino

Precision = Literal["f32", "bf16"]

_DEVICE = "CPU"
_OUT_OF_MEMORY = re.compile(r"bad.alloc|out of memory|could not create a memory", re.IGNORECASE)


class Runtime(GraphRuntime):
    """Loads graphs with OpenVINO for the CPU.

    precision: what networks compute in; None is bfloat16 where the CPU has it and else float32. Weights and
    activations are rounded to it, inputs and outputs stay what the graph declares. `name` says which it is.
    """

    def __init__(self, precision: Precision | None = None) -> None:
        try:
            import openvino
        except ImportError:
            raise MissingExtraError("openvino", "openvino") from None
        with kept_signal_stack():
            self._core = openvino.Core()
            if _DEVICE not in self._core.available_devices:
                raise BackendUnavailableError("this build of openvino has no CPU device; reinstall openvino")
            capable = "BF16" in self._core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not capable:
            raise BackendUnavailableError(
                "this CPU has no bfloat16 (avx512_bf16 or amx_bf16); take --backend openvino:f32"
            )
        self.precision: Precision = precision or ("bf16" if capable else "f32")
        self.name = f"openvino:{self.precision}"
        self.device = HostDevice()

    def load(
        self,
        graph: Path,
        *,
        small: bool = False,
        exact: bool = False,
        overrides: Mapping[str, Array] = MappingProxyType({}),
        saved: SavedGraph | None = None,
    ) -> OpenVinoGraph:
        """Load one ONNX graph. small: run it on one thread, in float32. exact: in float32.

        overrides: weights by initializer. saved: where the compiled model of an FP16 graph is kept; with
        overrides it is not.
        Raises BundleError naming the file if OpenVINO cannot load it, or if it lacks an initializer;
        BackendUnavailableError if it would compute in another precision.
        """
        # read before: OpenVINO gives one tensor several names, and narrows shapes by what operators can do
        inputs, outputs = read_signature(graph)
        precision = "f32" if small or exact else self.precision
        # `latency` is one stream with every core in it; the plugin would take bf16 by itself, unasked
        settings: dict[str, str | int] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
        }
        if small:
            settings["INFERENCE_NUM_THREADS"] = 1
        try:
            model = self._core.read_model(graph)
            _override(model, graph, overrides)
            waves = None if precision == "f32" else self._cut_waves(model)
            keep = saved if not overrides and _worth_keeping(inputs) else None
            compiled = self._compile(model, settings, keep)
        except MemoryError:
            raise no_memory_to_load(graph) from None
        except RuntimeError as error:
            if _OUT_OF_MEMORY.search(str(error)):
                raise no_memory_to_load(graph) from None
            raise BundleError(f"openvino cannot load {graph}: {one_line(error)}") from None
        taken = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if taken != precision:
            raise BackendUnavailableError(f"asked for {precision}, openvino took {taken} for {graph}")
        return OpenVinoGraph(compiled, graph, inputs, outputs, waves)

    def _compile(
        self, model: openvino.Model, settings: Mapping[str, str | int], saved: SavedGraph | None
    ) -> openvino.CompiledModel:
        """Compile a model, or take what an earlier process compiled."""
        if saved is None:
            return self._core.compile_model(model, _DEVICE, settings)
        made_of = {"openvino": version(), **{key: str(value) for key, value in settings.items()}}
        found = saved.find(made_of)
        if found is not None:
            return self._core.compile_model(model, _DEVICE, {**settings, "CACHE_DIR": str(found)})
        with saved.make(made_of) as folder:
            cache = {} if folder is None else {"CACHE_DIR": str(folder)}
            return self._core.compile_model(model, _DEVICE, {**settings, **cache})

    def _cut_waves(self, model: openvino.Model) -> Waves | None:
        waves = cut_waves(model)
        if waves is None:
            return None
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        return Waves(self._core.compile_model(waves, _DEVICE, settings))


def _worth_keeping(inputs: Mapping[str, TensorSpec]) -> bool:
    """Whether a graph computes in FP16, whose weights take long to convert.

    The U-Net of Stable Diffusion XL takes 5 s in place of 38. An FP32 graph gains nothing: that of Stable
    Diffusion 1.5 takes 1.2 to 2.2 s to load and 1.3 to 1.8 s to compile.
    """
    return any(spec.dtype == "float16" for spec in inputs.values())


def _override(model: openvino.Model, graph: Path, overrides: Mapping[str, Array]) -> None:
    """Replace constants before the graph is optimised. They keep the names of the file's initializers."""
    if not overrides:
        return
    from openvino import op

    stored = {one.get_friendly_name(): one for one in model.get_ordered_ops() if isinstance(one, op.Constant)}
    for name, array in overrides.items():
        if name not in stored:
            raise missing_weight(graph, name)
        constant = op.Constant(np.ascontiguousarray(array), True)  # True: the array's own memory
        for reader in stored[name].output(0).get_target_inputs():
            reader.replace_source_output(constant.output(0))
    model.validate_nodes_and_infer_types()


class OpenVinoGraph:
    """One compiled graph with one inference request, reading and writing bound buffers in place.

    OpenVINO says nothing when an output is not of its buffer's shape, and leaves one that is too small as it
    was. So the first run after `bind` writes to memory of OpenVINO's own, whose shapes are looked at.
    """

    def __init__(
        self,
        compiled: openvino.CompiledModel,
        path: Path,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        waves: Waves | None,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._waves = waves
        self._path = path
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._bound: Mapping[str, HostBuffer] = {}
        self._in_place = False

    def bind(self, buffers: Mapping[str, Buffer]) -> None:
        """Read from and write to `buffers` from now on; keeps a reference to each."""
        self._bound = {name: _host(buffers[name]) for name in (*self.inputs, *self.outputs)}
        self._request = self._compiled.create_infer_request()
        self._in_place = False
        tensors = {name: _tensor(self._bound[name]) for name in self.inputs}
        for name, tensor in tensors.items():
            self._request.set_tensor(name, tensor)
        if self._waves is not None:
            self._waves.bind(tensors)

    def run(self) -> None:
        """Execute once. Raises ComputeError naming the graph."""
        try:
            if self._waves is not None:
                self._waves.run(self._request)
            self._request.infer()
        except (MemoryError, RuntimeError) as error:
            message = one_line(error)
            if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(message):
                raise ComputeError(
                    f"out of memory in {self._path.parent.name}; lower the width and height or the count"
                ) from None
            raise self._failed(message) from None
        if not self._in_place:
            self._bind_outputs()

    def close(self) -> None:
        """Free the graph."""
        del self._request, self._compiled, self._waves

    def _bind_outputs(self) -> None:
        for name in self.outputs:
            made, buffer = self._request.get_tensor(name), self._bound[name]
            if tuple(made.shape) != buffer.shape:
                raise self._failed(f"{name} is {list(made.shape)}, not {list(buffer.shape)}")
            np.copyto(buffer.array, made.data)
            self._request.set_tensor(name, _tensor(buffer))
        self._in_place = True

    def _failed(self, how: str) -> ComputeError:
        return ComputeError(f"{self._path} failed in openvino: {how}")


def _host(buffer: Buffer) -> HostBuffer:
    if not isinstance(buffer, HostBuffer):
        raise TypeError(f"{type(buffer).__name__} is not in the memory of the CPU")
    return buffer


def _tensor(buffer: HostBuffer) -> openvino.Tensor:
    from openvino import Tensor

    return Tensor(buffer.array, shared_memory=True)


def version() -> str:
    """The installed version of openvino."""
    import openvino

    return str(openvino.__version__)
