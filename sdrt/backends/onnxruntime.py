"""The onnxruntime backend, on the CPU execution provider."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from sdrt.backends.graph_runtime import GraphRuntime
from sdrt.backends.host import HostDevice
from sdrt.backends.onnxruntime_session import (
    CPU,
    OnnxRuntimeGraph,
    open_session,
    override,
    session_options,
    version,
)
from sdrt.backends.protocol import Array
from sdrt.errors import BackendUnavailableError, BundleError, MissingExtraError
from sdrt.saved_graphs import SavedGraph

if TYPE_CHECKING:
    import onnxruntime

_PROVIDERS: Mapping[str, Mapping[str, str]] = {CPU: {}}
_SAVED = "model.onnx"
# Weights are saved as the file has them, not as matrix products want them packed: a text encoder saved with
# session.save_external_prepacked_constant_initializers ended the process when onnxruntime 1.31 ran it.
_SAVED_WEIGHTS = {
    "session.optimized_model_external_initializers_file_name": f"{_SAVED}.data",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}


class Runtime(GraphRuntime):
    """Loads graphs with onnxruntime for the CPU."""

    name = "onnxruntime"

    def __init__(self) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError("onnxruntime", "cpu") from None
        if CPU not in onnxruntime.get_available_providers():
            raise BackendUnavailableError(f"this build of onnxruntime has no {CPU}; reinstall onnxruntime")
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
        options = session_options(small)
        model, weights = override(options, graph, overrides) if overrides else (None, [])
        return OnnxRuntimeGraph(open_session(graph, options, _PROVIDERS, model), graph, self.device, weights)


def _saved_session(graph: Path, saved: SavedGraph, small: bool) -> onnxruntime.InferenceSession | None:
    """The graph as it was optimised before, or else optimised and saved now; None if neither can be.

    Of the 5.5 s that onnxruntime takes to load the U-Net of Stable Diffusion 1.5 it optimises for 4.3.
    """
    import onnxruntime

    settings = {"onnxruntime": version(), "provider": CPU}
    found = saved.find(settings)
    options = session_options(small)
    if found is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        with contextlib.suppress(BundleError):  # then it is made again
            return open_session(found / _SAVED, options, _PROVIDERS)
    with contextlib.suppress(BundleError), saved.make(settings) as folder:
        if folder is not None:
            options = session_options(small)
            options.optimized_model_filepath = str(folder / _SAVED)
            for key, value in _SAVED_WEIGHTS.items():
                options.add_session_config_entry(key, value)
            return open_session(graph, options, _PROVIDERS)
    return None
