"""Sessions of onnxruntime, whatever the execution provider."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sdrt.backends.failures import no_memory_to_load, one_line
from sdrt.backends.protocol import Array, Buffer, Device
from sdrt.errors import BackendUnavailableError, BundleError, ComputeError
from sdrt.onnx_initializers import missing_weight, read_initializers, with_external_shapes
from sdrt.tensors import TensorSpec

if TYPE_CHECKING:
    import onnxruntime

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
# what a provider that does not load lacks
_MENDS = {
    CPU: "reinstall onnxruntime",
    CUDA: "it needs the libraries of CUDA and cuDNN: pip install 'onnxruntime-gpu[cuda,cudnn]'",
    TENSORRT: "it needs the libraries of TensorRT: pip install 'sdrt[tensorrt]'",
}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
_DATA_FOLDER = "session.model_external_initializers_file_folder_path"  # for a model that is no file
_FATAL = 4  # errors reach the user as exceptions; onnxruntime's own log would say them twice


def session_options(small: bool) -> onnxruntime.SessionOptions:
    """Options for one graph. small: run it on the calling thread alone."""
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


def open_session(
    graph: Path,
    options: onnxruntime.SessionOptions,
    providers: Mapping[str, Mapping[str, str]],
    model: bytes | None = None,
) -> onnxruntime.InferenceSession:
    """A session on these providers, the first of them before the others, each with its options.

    model: what to load in place of the file `graph`.
    Raises BundleError naming the file if onnxruntime cannot load it; BackendUnavailableError if it took
    other providers than those, which it does without an error where one does not load.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(
            model or str(graph), options, providers=list(providers.items()), enable_fallback=0
        )
    except MemoryError:
        raise no_memory_to_load(graph) from None
    except Exception as error:  # onnxruntime raises its own classes, which share no other base
        raise BundleError(f"onnxruntime cannot load {graph}: {one_line(error)}") from None
    # the CPU's is always there, and last unless it is asked for
    wanted, taken = [*dict.fromkeys([*providers, CPU])], session.get_providers()
    if taken != wanted:
        raise BackendUnavailableError(
            f"asked for {', '.join(providers)}, onnxruntime took {', '.join(taken)}; {_MENDS[wanted[0]]}"
        )
    return session


def override(
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
        device: Device,
        weights: Sequence[onnxruntime.OrtValue],
    ) -> None:
        self.inputs = {value.name: _spec(value) for value in session.get_inputs()}
        self.outputs = {value.name: _spec(value) for value in session.get_outputs()}
        self._session = session
        self._path = path
        self._device = device
        self._weights = weights
        self._binding = session.io_binding()
        self._run_options: onnxruntime.RunOptions | None = None
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
            self._session.run_with_iobinding(self._binding, self._run_options)
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
