"""The onnxruntime backend on NVIDIA GPUs: its CUDA provider, or its TensorRT provider.

onnxruntime falls back without an error: from a provider that does not load to the CPU, and node by node from
one provider to the next. Both are looked for here, and refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol, Self, SupportsInt

from sdrt import graphs
from sdrt.backends.graph_runtime import GraphRuntime
from sdrt.backends.onnxruntime_providers import cuda_options, profile_options, tensorrt_options
from sdrt.backends.onnxruntime_session import (
    CUDA,
    TENSORRT,
    OnnxRuntimeGraph,
    open_session,
    override,
    session_options,
)
from sdrt.backends.protocol import Array, Buffer, Device
from sdrt.bundle import Bundle
from sdrt.engines import bundle_graph
from sdrt.errors import BackendUnavailableError, BundleError, MissingExtraError
from sdrt.onnx_signature import read_signature
from sdrt.private_files import is_private
from sdrt.profiles import Profile, input_ranges
from sdrt.saved_graphs import SavedGraph
from sdrt.verified import cache_folder

if TYPE_CHECKING:
    import onnxruntime

Provider = Literal["cuda", "tensorrt"]

_NAMES: Mapping[Provider, str] = {"cuda": CUDA, "tensorrt": TENSORRT}
_RECORD_NODES = "session.record_ep_graph_assignment_info"
# What a network is made of. The rest is numbers about shapes, which belong on the CPU.
_COMPUTES = ("Conv", "MatMul", "Gemm", "Attention", "Normalization", "Softmax", "Resize")
_CANNOT_CAPTURE = "graph capture"  # stands in onnxruntime's refusal
_RUNS_BEFORE_CAPTURE = 2  # a VAE runs once, and a capture takes two runs more


class StreamDevice(Device, Protocol):
    """A CUDA device whose work is queued on one stream; `int(stream)` is its handle."""

    stream: SupportsInt


class Runtime(GraphRuntime):
    """Loads graphs with onnxruntime for an NVIDIA GPU.

    profile: the shapes that the TensorRT provider builds its engines for; by default those that it is run
    with, and an engine is built anew for each that is outside of those before.
    """

    def __init__(self, provider: Provider, profile: Profile | None = None) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError("onnxruntime-gpu", "cuda") from None
        self._provider = _NAMES[provider]
        if self._provider not in onnxruntime.get_available_providers():
            raise BackendUnavailableError(
                f"the installed onnxruntime has no {self._provider}; replace it: "
                "pip uninstall -y onnxruntime && pip install 'sdrt[cuda]'"
            )
        onnxruntime.preload_dlls()  # CUDA's libraries from the packages that pip installs
        from sdrt.backends.cuda import CudaDevice

        self.name = f"onnxruntime:{provider}"
        self.device: StreamDevice = CudaDevice()
        self._profile = profile
        self._bundle: Bundle | None = None
        # a provider whose libraries are missing shows when a session is made
        self.load(graphs.path("latents", "float32"), small=True).close()

    def for_bundle(self, bundle: Bundle, *, trust_engines: bool = False) -> Self:
        """Keep engines that the TensorRT provider builds of this bundle's graphs, in the user's cache."""
        self._bundle = bundle
        return self

    def load(
        self,
        graph: Path,
        *,
        small: bool = False,
        exact: bool = False,
        overrides: Mapping[str, Array] = MappingProxyType({}),
        saved: SavedGraph | None = None,
    ) -> GpuGraph:
        """Load one ONNX graph. overrides: weights by initializer.

        exact, saved: make no difference; everything is computed in the graph's precision, and what was
        optimised for CUDA is not kept.
        Raises BundleError naming the file if onnxruntime cannot load it, or if it lacks an initializer;
        BackendUnavailableError if a part of the network would run elsewhere.
        """
        half = not small and "float16" in {spec.dtype for spec in read_signature(graph)[0].values()}
        stream, index = int(self.device.stream), self.device.index

        def session(capture: bool) -> tuple[onnxruntime.InferenceSession, Sequence[onnxruntime.OrtValue]]:
            options = session_options(small)
            options.add_session_config_entry(_RECORD_NODES, "1")
            model, weights = override(options, graph, overrides) if overrides else (None, [])
            providers = {CUDA: cuda_options(index, stream, half=half, small=small, capture=capture)}
            if self._provider == TENSORRT:
                own = {} if overrides else self._kept(graph)
                providers = {TENSORRT: {**tensorrt_options(index, stream, half=half), **own}, **providers}
            return open_session(graph, options, providers, model), weights

        # The TensorRT provider's own capture takes no account of other addresses.
        capture = self._provider == CUDA
        try:
            made, weights = session(capture)
        except BundleError as error:
            if not capture or _CANNOT_CAPTURE not in str(error):
                raise
            capture = False
            made, weights = session(capture)
        _check_nodes(made, graph, self._provider)
        return GpuGraph(made, graph, self.device, weights, capture=capture)

    def _kept(self, graph: Path) -> dict[str, str]:
        """Where the engines of a graph are kept, and the shapes they are for; nothing outside of a bundle."""
        if self._bundle is None or not self._bundle.hashed:
            return {}
        name, digest = bundle_graph(self._bundle, graph, graphs.FOLDER)
        options = {}
        # an engine is code: it is read from where nobody else can write
        folder = cache_folder() / "tensorrt-provider" / digest[:32]
        private = False
        with contextlib.suppress(OSError):  # no home, or a read-only one
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            private = is_private(folder)
        if private:
            options = {
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": str(folder),
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": str(folder.parent),
            }
        if self._profile is not None:
            ranges = input_ranges(self._bundle.manifest, name, read_signature(graph)[0], self._profile)
            options |= profile_options(ranges)
        return options


def _check_nodes(session: onnxruntime.InferenceSession, graph: Path, provider: str) -> None:
    """Raise BackendUnavailableError if another provider was given a part of the network."""
    for part in session.get_provider_graph_assignment_info():
        computing = [node.op_type for node in part.get_nodes() if node.op_type.endswith(_COMPUTES)]
        if part.ep_name != provider and computing:
            mend = "take --backend onnxruntime:cuda" if provider == TENSORRT else "update onnxruntime-gpu"
            raise BackendUnavailableError(
                f"{provider} does not take {computing[0]} of {graph}, which {part.ep_name} would run; {mend}"
            )


class GpuGraph(OnnxRuntimeGraph):
    """One graph in a session on a GPU; `run` queues it on the device's stream.

    capture: record what a run launches as a CUDA graph when it is repeated over the same buffers, and replay
    that from then on.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        path: Path,
        device: Device,
        weights: Sequence[onnxruntime.OrtValue],
        *,
        capture: bool,
    ) -> None:
        super().__init__(session, path, device, weights)
        self._capture = capture
        self._captured = 0  # counts up: a number that was used replays what was recorded under it
        self._runs = 0

    def bind(self, buffers: Mapping[str, Buffer]) -> None:
        """Read from and write to `buffers` from now on; keeps a reference to each."""
        if _places(buffers) != _places(self._bound):
            self._session.release_captured_graph(self._captured)
            self._captured += 1
            self._runs = 0
        super().bind(buffers)

    def run(self) -> None:
        """Queue one execution. Raises ComputeError naming the graph."""
        if self._runs <= _RUNS_BEFORE_CAPTURE:
            replay = self._capture and self._runs == _RUNS_BEFORE_CAPTURE
            self._run_options = _run_options(self._captured if replay else None)
            self._runs += 1
        super().run()


def _places(buffers: Mapping[str, Buffer]) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {name: (buffer.address, buffer.shape) for name, buffer in buffers.items()}


def _run_options(captured: int | None) -> onnxruntime.RunOptions:
    """Of a run that is recorded as a CUDA graph of that number, or replays it; None: of a plain one."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    # later graphs are queued on the same stream, and downloads wait for it
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    options.add_run_config_entry("gpu_graph_id", str(-1 if captured is None else captured))
    return options
