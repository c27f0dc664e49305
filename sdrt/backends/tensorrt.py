"""The TensorRT backend: runs the engines that `sdrt export --engine tensorrt` built for this GPU."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path

from sdrt.backends.cuda import CudaDevice
from sdrt.backends.engine_runtime import EngineRuntime
from sdrt.backends.failures import no_memory_to_load
from sdrt.backends.protocol import Array
from sdrt.backends.tensorrt_engine import Activations, TensorRTEngine
from sdrt.backends.tensorrt_library import Complaints, is_out_of_memory, tensorrt_version
from sdrt.backends.tensorrt_refit import replace_weights
from sdrt.engines import Engine
from sdrt.errors import EngineError


class Runtime(EngineRuntime):
    """Loads the engines of a bundle. They share one stream and one block of memory for what they compute."""

    kind = "tensorrt"

    def __init__(self) -> None:
        version = tensorrt_version()
        import tensorrt as trt

        self._cuda = device = CudaDevice("tensorrt")
        super().__init__("tensorrt", device, device.architecture, version)
        self._complaints = Complaints()
        self._runtime = trt.Runtime(self._complaints.log)
        self._activations = Activations(device)

    def open(self, engine: Engine, path: Path, overrides: Mapping[str, Array]) -> TensorRTEngine:
        """Load one plan, with other weights if there are overrides.

        Raises EngineError if TensorRT refuses it, ComputeError if there is no memory for it.
        """
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plan:
            loaded = self._runtime.deserialize_cuda_engine(plan)
        if loaded is None:
            said = self._complaints.take()
            if is_out_of_memory(said):
                raise no_memory_to_load(path)
            raise EngineError(f"TensorRT does not load {path}: {said}; remove it and {self._folder().mend}")
        if overrides:
            replace_weights(loaded, self._complaints, overrides, path, self._graph(engine), self._folder())
        return TensorRTEngine(loaded, engine, path, self._cuda, self._activations, self._complaints)

    def _graph(self, engine: Engine) -> Path:
        """The ONNX file that an engine was made from."""
        assert self._bundle is not None
        entries = self._bundle.manifest.graphs.items()
        return next(self._bundle.path / entry.path for name, entry in entries if name == engine.graph)
