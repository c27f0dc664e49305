"""The AOTInductor backend: packages that PyTorch compiled, on CUDA or the CPU. The one that needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from weakref import WeakValueDictionary

from sdrt.backends.aoti_constants import METADATA_KEY, decode
from sdrt.backends.aoti_weights import GraphWeights
from sdrt.backends.engine_runtime import EngineRuntime
from sdrt.backends.failures import no_memory_to_load
from sdrt.backends.protocol import Array, Buffer
from sdrt.backends.torch_device import Repeated, TorchDevice, tensor_of
from sdrt.backends.torch_failures import first_line, memory_wanted
from sdrt.engines import Engine
from sdrt.errors import BackendUnavailableError, ComputeError, EngineError, MissingExtraError
from sdrt.this_machine import cpu_architecture

if TYPE_CHECKING:
    import torch

_Places = tuple[tuple[int, tuple[int, ...]], ...]  # addresses and shapes of buffers
DeviceName = Literal["cpu", "cuda"]
_KEPT = 8  # captured graphs of one package: more take the GPU's memory for nothing
MODEL = "model"  # the name that torch gives the only model of a package


class Runtime(EngineRuntime):
    """Runs packages on a device; None is CUDA where torch sees it, else the CPU. `name` says which.

    cuda_graphs: see `TorchDevice`.
    """

    kind = "aoti"

    def __init__(self, device: DeviceName | None = None, *, cuda_graphs: bool = True) -> None:
        taken, version = open_torch(device)
        self._device = TorchDevice(taken, cuda_graphs=cuda_graphs)
        super().__init__(f"aoti:{taken}", self._device, architecture(taken), version)
        self._shared: WeakValueDictionary[tuple[Path, int], GraphWeights] = WeakValueDictionary()

    def open(self, engine: Engine, path: Path, overrides: Mapping[str, Array]) -> Package:
        """Load one package and give it its graph's weights."""
        loader = load_package(path)
        try:
            constants = decode(loader.get_metadata()[METADATA_KEY])
        except (KeyError, ValueError):
            raise EngineError(f"{path} does not say what weights it takes; {self._folder().mend}") from None
        if not constants:
            return Package(engine, path, loader, None, self._device)
        weights = self._weights(engine, overrides)
        try:
            with self._device.queueing():
                tensors = weights.tensors(constants)
            # no copies: the package computes with these very tensors, which it does not keep alive
            loader.load_constants(tensors, False, True, True)
        except (KeyError, ValueError, RuntimeError, MemoryError) as error:
            if memory_wanted(error) is not None:
                raise no_memory_to_load(path) from None
            raise EngineError(
                f"the weights of {engine.graph} are not those that {path} takes ({first_line(error)}); "
                f"{self._folder().mend}"
            ) from None
        return Package(engine, path, loader, weights, self._device)

    def _weights(self, engine: Engine, overrides: Mapping[str, Array]) -> GraphWeights:
        """Those of a graph, shared by its packages for as long as one of them is loaded."""
        assert self._bundle is not None
        graphs = {str(name): entry for name, entry in self._bundle.manifest.graphs.items()}
        graph = self._bundle.path / graphs[engine.graph].path
        key = (graph, id(overrides))  # which lives as long as its GraphWeights
        weights = self._shared.get(key)
        if weights is None:
            weights = self._shared[key] = GraphWeights(graph, overrides, self._device.name)
        return weights


class Package:
    """One package in memory, reading from and writing to bound buffers."""

    def __init__(
        self,
        engine: Engine,
        path: Path,
        loader: torch._C._aoti.AOTIModelPackageLoader,
        weights: GraphWeights | None,
        device: TorchDevice,
    ) -> None:
        self._inputs, self._outputs = engine.signature
        self._graph, self._path = engine.graph, path
        self._loader, self._weights = loader, weights
        self._device = device
        self._work: Repeated | None = None
        self._at: _Places = ()
        self._captured: dict[_Places, Repeated] = {}

    def bind(self, buffers: Mapping[str, Buffer]) -> None:
        """Read from and write to `buffers` from now on.

        What was captured is replayed when buffers lie again where they lay: those of equal pictures do.
        """
        bound = [buffers[name] for name in (*self._inputs, *self._outputs)]
        if self._work is not None and self._work.captured:
            self._captured[self._at] = self._work
            if len(self._captured) > _KEPT:
                del self._captured[next(iter(self._captured))]
        self._at = tuple((one.address, one.shape) for one in bound)
        self._work = self._captured.pop(self._at, None) or self._device.repeated(self._queueing(bound))

    def _queueing(self, bound: Sequence[Buffer]) -> Callable[[], None]:
        tensors = [tensor_of(one) for one in bound]
        inputs, outputs = tensors[: len(self._inputs)], tensors[len(self._inputs) :]
        run = self._loader.run

        def queue() -> None:
            for made, output in zip(run(inputs), outputs, strict=True):
                output.copy_(made)

        return queue

    def run(self) -> None:
        """Queue one execution. Raises ComputeError naming the graph."""
        assert self._work is not None, "bind first"
        try:
            self._work.run()
        except (RuntimeError, MemoryError) as error:
            wanted = memory_wanted(error)
            if wanted is None:
                raise ComputeError(f"{self._graph} failed in {self._path}: {first_line(error)}") from None
            raise ComputeError(
                f"out of memory: {self._graph} wanted{wanted} more; lower the width and height or the count"
            ) from None

    def close(self) -> None:
        """Free the package and its weights."""
        self._work = None
        self._captured.clear()
        del self._loader, self._weights


def open_torch(device: DeviceName | None) -> tuple[DeviceName, str]:
    """The device that is taken, and the version of torch.

    Raises MissingExtraError if torch is not installed, BackendUnavailableError if it does not see the device.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtraError("torch", "aoti") from None
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise BackendUnavailableError(
            f"torch {torch.__version__} sees no NVIDIA GPU; take --backend aoti:cpu, or install a torch "
            "that is built for CUDA"
        )
    taken = device or ("cuda" if there else "cpu")
    if taken == "cuda":
        # cuDNN would round the convolutions of FP32 graphs to TF32 by itself
        torch.backends.cudnn.allow_tf32 = False
    return taken, str(torch.__version__)


def architecture(device: DeviceName) -> str:
    """What packages for this machine's device are for: `sm90`, or `cpu-` and a digest of its instructions."""
    if device == "cpu":
        return cpu_architecture()
    import torch

    return "sm{}{}".format(*torch.cuda.get_device_capability())


def load_package(path: Path) -> torch._C._aoti.AOTIModelPackageLoader:
    """Run a package's code to have it in memory. Raises EngineError if it is none."""
    # rather than torch._inductor.aoti_load_package, which imports the compiler before it does the same
    from torch._C._aoti import AOTIModelPackageLoader

    try:
        # single threaded: it records no events, which a CUDA graph could not capture
        return AOTIModelPackageLoader(str(path), MODEL, True, 1, -1)
    except RuntimeError as error:
        raise EngineError(f"torch cannot load {path}: {first_line(error)}") from None
