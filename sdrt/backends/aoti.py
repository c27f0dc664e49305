"""The AOTInductor backend: packages that PyTorch compiled, on CUDA or the CPU. The one that needs torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sdrt.backends.aoti_constants import METADATA_KEY, Constant, assemble, decode
from sdrt.backends.engine_runtime import EngineRuntime
from sdrt.backends.failures import one_line
from sdrt.backends.host import HostBuffer, HostDevice
from sdrt.backends.protocol import Array, Buffer
from sdrt.backends.torch_device import TorchBuffer, TorchDevice
from sdrt.engines import Engine
from sdrt.errors import BackendUnavailableError, ComputeError, EngineError, MissingExtraError
from sdrt.onnx_initializers import missing_weight, read_initializers
from sdrt.this_machine import cpu

if TYPE_CHECKING:
    import torch

DeviceName = Literal["cpu", "cuda"]
_DIGITS = 8  # of the CPU, in the name of a folder
MODEL = "model"  # the name that torch gives the only model of a package


class Runtime(EngineRuntime):
    """Runs packages on a device; None is CUDA where torch sees it, else the CPU. `name` says which."""

    kind = "aoti"

    def __init__(self, device: DeviceName | None = None) -> None:
        taken, version = open_torch(device)
        host = taken == "cpu"
        super().__init__(
            f"aoti:{taken}", HostDevice() if host else TorchDevice(taken), architecture(taken), version
        )
        self._taken = taken

    def open(self, engine: Engine, path: Path, overrides: Mapping[str, Array]) -> Package:
        """Load one package and give it its graph's weights."""
        loader = load_package(path)
        try:
            constants = decode(loader.get_metadata()[METADATA_KEY])
        except (KeyError, ValueError):
            raise EngineError(f"{path} does not say what weights it takes; {self._folder().mend}") from None
        with self.device.queueing() if isinstance(self.device, TorchDevice) else nullcontext():
            tensors = self._constants(engine, constants, overrides)
        try:
            # no copy: the package uses these very tensors, which it does not keep alive
            loader.load_constants(tensors, False, True, True)
        except RuntimeError as error:
            raise EngineError(f"{path} takes other weights: {one_line(error)}") from None
        return Package(engine, path, loader, tensors, self.device)

    def _constants(
        self, engine: Engine, constants: Mapping[str, Constant], overrides: Mapping[str, Array]
    ) -> dict[str, torch.Tensor]:
        assert self._bundle is not None
        entry = self._bundle.manifest.graphs.get(engine.graph)  # type: ignore[call-overload]
        if entry is None:  # one of the small ones, which have no weights
            return {}
        graph = self._bundle.path / entry.path
        stored = read_initializers(graph)
        missing = next((name for name in overrides if name not in stored), None)
        if missing is not None:
            raise missing_weight(graph, missing)
        made = {}
        for name, constant in constants.items():
            try:
                values = assemble(constant, stored, overrides)
            except (KeyError, ValueError) as error:
                raise EngineError(
                    f"{graph} has no weight that makes {name} of its engine ({one_line(error)}); "
                    f"{self._folder().mend}"
                ) from None
            made[name] = _placed(values, constant.stride, self._taken)
        return made


class Package:
    """One package in memory, reading from and writing to bound buffers."""

    def __init__(
        self,
        engine: Engine,
        path: Path,
        loader: torch._C._aoti.AOTIModelPackageLoader,
        tensors: Mapping[str, torch.Tensor],
        device: HostDevice | TorchDevice,
    ) -> None:
        self._inputs, self._outputs = engine.signature
        self._graph, self._path = engine.graph, path
        self._loader, self._tensors = loader, tensors
        self._device = device

    def bind(self, buffers: Mapping[str, Buffer]) -> None:
        """Read from and write to `buffers` from now on; keeps a reference to each."""
        inputs = [_tensor(buffers[name]) for name in self._inputs]
        outputs = [_tensor(buffers[name]) for name in self._outputs]

        def work() -> None:
            for made, output in zip(self._loader.run(inputs), outputs, strict=True):
                output.copy_(made)

        self._work = self._device.repeated(work) if isinstance(self._device, TorchDevice) else work

    def run(self) -> None:
        """Queue one execution. Raises ComputeError naming the graph."""
        try:
            self._work()
        except (RuntimeError, MemoryError) as error:
            raise ComputeError(f"{self._graph} failed in {self._path.name}: {one_line(error)}") from None

    def close(self) -> None:
        """Free the package and its weights."""
        self._work = _closed
        del self._loader, self._tensors


def _closed() -> None:
    raise AssertionError("closed")


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
        return f"cpu-{hashlib.sha256(cpu().encode()).hexdigest()[:_DIGITS]}"
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
        raise EngineError(f"torch cannot load {path}: {one_line(error)}") from None


def _placed(values: Array, stride: tuple[int, ...], device: DeviceName) -> torch.Tensor:
    """Values on a device, in a layout."""
    import torch

    tensor = torch.from_numpy(values)
    if device == "cpu" and tensor.stride() == stride:
        return tensor
    placed = torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype, device=device)
    return placed.copy_(tensor)


def _tensor(buffer: Buffer) -> torch.Tensor:
    import torch

    if isinstance(buffer, TorchBuffer):
        return buffer.tensor
    if isinstance(buffer, HostBuffer):
        return torch.from_numpy(buffer.array)
    raise TypeError(f"{type(buffer).__name__} is neither in the memory of the CPU nor of PyTorch")
