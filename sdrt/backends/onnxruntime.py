"""The onnxruntime backend, on the CPU execution provider."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from sdrt.backends.failures import no_memory_to_load, one_line
from sdrt.backends.graph_runtime import GraphRuntime
from sdrt.backends.host import HostDevice
from sdrt.backends.protocol import Array, Buffer
from sdrt.errors import BackendUnavailableError, BundleError, ComputeError, MissingExtraError
from sdrt.onnx_initializers import missing_weight, read_initializers, with_external_shapes
from sdrt.saved_graphs import SavedGraph
from sdrt.tensors import TensorSpec

if TYPE_CHECKING:
    import onnxruntime

_PROVIDER = "CPUExecutionProvider"
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
_DATA_FOLDER = "session.model_external_initializers_file_folder_path"  # for a model that is no file
_SAVED = "model.onnx"
# Weights are saved as the file has them, not as matrix products want them packed: a text encoder saved with
# session.save_external_prepacked_constant_initializers ended the process when onnxruntime 1.31 ran it.
_SAVED_WEIGHTS = {
    "session.optimized_model_external_initializers_file_name": f"{_SAVED}.data",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}
_FATAL = 4  # errors reach the user as exceptions; onnxruntime's own log would say them twice


class Runtime(GraphRuntime):
    """Loads graphs with onnxruntime for the CPU."""

    name = "onnxruntime"

    def __init__(self) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError("onnxruntime", "cpu") from None
        if _PROVIDER not in onnxruntime.get_available_providers():
            raise BackendUnavailableError(
                f"this build of onnxruntime has no {_PROVIDER}; reinstall onnxruntime"
            )
        self.device = HostDevice()

    def load(
        self,
        graph: Path,
        *,
        small: bool = False,
        exact: bool = False,
        overrides: Mapping[str, Array] = MappingProxyType({}),
        saved: SavedGraph | None = None,
    ) -> OnnxRuntimeGraph:
        """Load one ONNX graph. small: run it on the calling thread alone. overrides: weights by initializer.

        exact: makes no difference, everything is computed in the graph's precision. saved: where the
        optimised graph is kept; with overrides it is not.
        Raises BundleError naming the file if onnxruntime cannot load it, or if it lacks an initializer.
        """
        if saved is not None and not overrides:
            session = _saved_session(graph, saved, small)
            if session is not None:
                return OnnxRuntimeGraph(session, graph, self.device, [])
        options = _options(small)
        model, weights = _override(options, graph, overrides) if overrides else (None, [])
        return OnnxRuntimeGraph(_session(graph, options, model), graph, self.device, weights)


def _options(small: bool) -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    # Planning which outputs may share memory takes time that grows with the square of the graph: 68 of
    # 117 ms for the demo's U-Net. Without it the arena frees and reuses as the graph runs; time and peak
    # memory were the same on the demo and on SD 1.5 at 512x512.
    options.enable_mem_reuse = False
    # From the second run on it would take one block for all that the first one took in parts, and keep those
    # parts: 6.4 GB in place of 5.5 for two pictures of 512x512, in the same time.
    options.enable_mem_pattern = False
    # the graphs take turns: threads that spin after one graph would take the cores from the next
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if small else "1")
    if small:
        options.intra_op_num_threads = 1
    return options


def _session(
    graph: Path, options: onnxruntime.SessionOptions, model: bytes | None = None
) -> onnxruntime.InferenceSession:
    """A session on the CPU provider. model: what to load in place of the file `graph`."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(model or str(graph), options, providers=[_PROVIDER])
    except MemoryError:
        raise no_memory_to_load(graph) from None
    except Exception as error:  # onnxruntime raises its own classes, which share no other base
        raise BundleError(f"onnxruntime cannot load {graph}: {one_line(error)}") from None
    if session.get_providers() != [_PROVIDER]:
        raise BackendUnavailableError(f"asked for {_PROVIDER}, onnxruntime took {session.get_providers()}")
    return session


def _saved_session(graph: Path, saved: SavedGraph, small: bool) -> onnxruntime.InferenceSession | None:
    """The graph as it was optimised before, or else optimised and saved now; None if neither can be.

    Of the 5.5 s that onnxruntime takes to load the U-Net of Stable Diffusion 1.5 it optimises for 4.3.
    """
    import onnxruntime

    settings = {"onnxruntime": version(), "provider": _PROVIDER}
    found = saved.find(settings)
    options = _options(small)
    if found is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        with contextlib.suppress(BundleError):  # then it is made again
            return _session(found / _SAVED, options)
    with contextlib.suppress(BundleError), saved.make(settings) as folder:
        if folder is not None:
            options = _options(small)
            options.optimized_model_filepath = str(folder / _SAVED)
            for key, value in _SAVED_WEIGHTS.items():
                options.add_session_config_entry(key, value)
            return _session(graph, options)
    return None


def _override(
    options: onnxruntime.SessionOptions, graph: Path, overrides: Mapping[str, Array]
) -> tuple[bytes | None, list[onnxruntime.OrtValue]]:
    """Replace initializers before the graph is optimised, so that constants fold and layouts change as ever.

    onnxruntime does that only for external initializers of the same shape. Returns the graph in which they
    are that, None if it is the file; and the values, which must live as long as the session.
    """
    import onnxruntime

    stored = read_initializers(graph)
    missing = next((name for name in overrides if name not in stored), None)
    if missing is not None:
        raise missing_weight(graph, missing)
    values = [
        onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in overrides.values()
    ]
    options.add_external_initializers(list(overrides), values)
    other = {
        name: array.shape
        for name, array in overrides.items()
        if not stored[name].external or stored[name].shape != array.shape
    }
    if not other:
        return None, values
    options.add_session_config_entry(_DATA_FOLDER, str(graph.parent))
    return with_external_shapes(graph, other), values


class OnnxRuntimeGraph:
    """One graph in an onnxruntime session, reading and writing bound buffers in place."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        path: Path,
        device: HostDevice,
        weights: Sequence[onnxruntime.OrtValue],
    ) -> None:
        self.inputs = {value.name: _spec(value) for value in session.get_inputs()}
        self.outputs = {value.name: _spec(value) for value in session.get_outputs()}
        self._session = session
        self._path = path
        self._device = device
        self._weights = weights
        self._binding = session.io_binding()
        self._bound: Mapping[str, Buffer] = {}

    def bind(self, buffers: Mapping[str, Buffer]) -> None:
        """Read from and write to `buffers` from now on; keeps a reference to each."""
        binding = self._session.io_binding()
        for names, bind in ((self.inputs, binding.bind_input), (self.outputs, binding.bind_output)):
            for name in names:
                buffer = buffers[name]
                dtype = np.dtype(buffer.dtype)
                bind(name, self._device.name, self._device.index, dtype, buffer.shape, buffer.address)
        self._binding, self._bound = binding, dict(buffers)

    def run(self) -> None:
        """Execute once. Raises ComputeError naming the graph."""
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # onnxruntime raises its own classes, which share no other base
            message = one_line(error)
            wanted = re.search(r"requested buffer of size (\d+)", message)
            if wanted:
                raise ComputeError(
                    f"out of memory: {self._path.parent.name} wanted {int(wanted[1]) / 1e9:.1f} GB more; "
                    "lower the width and height or the count"
                ) from None
            raise ComputeError(f"{self._path} failed in onnxruntime: {message}") from None

    def close(self) -> None:
        """Free the session."""
        del self._binding, self._session, self._weights


def _spec(value: onnxruntime.NodeArg) -> TensorSpec:
    shape = tuple(axis if isinstance(axis, int) else None for axis in value.shape)
    return TensorSpec(_DTYPES[value.type], shape)


def version() -> str:
    """The installed version of onnxruntime."""
    import onnxruntime

    return str(onnxruntime.__version__)
