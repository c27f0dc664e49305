"""Backends by name. Adding one is a module with a `load` function and a line in the table below."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from sdrt.backends.protocol import Array, Backend, Buffer, Device
from sdrt.bundle import Bundle
from sdrt.errors import UnknownNameError
from sdrt.saved_graphs import SavedGraph

__all__ = ["BACKENDS", "Array", "Backend", "Buffer", "Device", "Runtime", "library", "open_runtime"]

# name -> module, imported only when asked for, and which of its runtimes: an execution provider, a device, or
# the precision that networks compute in; None: the only one, or the quickest that the backend can answer for
BACKENDS: Mapping[str, tuple[str, str | None]] = {
    "onnxruntime": ("sdrt.backends.onnxruntime", None),
    "onnxruntime:cuda": ("sdrt.backends.onnxruntime_gpu", "cuda"),
    "onnxruntime:tensorrt": ("sdrt.backends.onnxruntime_gpu", "tensorrt"),
    "openvino": ("sdrt.backends.openvino", None),
    "openvino:f32": ("sdrt.backends.openvino", "f32"),
    "openvino:bf16": ("sdrt.backends.openvino", "bf16"),
    "tensorrt": ("sdrt.backends.tensorrt", None),
    "aoti": ("sdrt.backends.aoti", None),
    "aoti:cpu": ("sdrt.backends.aoti", "cpu"),
    "aoti:cuda": ("sdrt.backends.aoti", "cuda"),
}
_LIBRARIES = {"aoti": "torch"}  # where the backend is not called as its library


class Runtime(Protocol):
    """A backend opened on a device: loads graphs for it.

    name: one of BACKENDS; where the precision is a choice, the one that says which it is.
    """

    name: str
    device: Device

    def for_bundle(self, bundle: Bundle, *, trust_engines: bool = False) -> Runtime:
        """The runtime that loads the graphs of this bundle: itself, told where engines are if it runs any.

        trust_engines: also those that were built elsewhere.
        """
        ...

    def pictures_at_once(self, width: int, height: int) -> int | None:
        """The most that it can make of this size in one batch; None where that does not matter."""
        ...

    def load(
        self,
        graph: Path,
        *,
        small: bool = False,
        exact: bool = False,
        overrides: Mapping[str, Array] = MappingProxyType({}),
        saved: SavedGraph | None = None,
    ) -> Backend:
        """Load one graph. small: it is a handful of operators, not worth more than one thread.

        exact: compute in nothing coarser than the graph says, as is done for small ones anyhow.
        overrides: initializers to take in place of the file's, by name, in their dtypes. The backend may keep
        them as they are while the graph is loaded: they must not be written to.
        saved: where the backend may keep what it made of the graph, if that makes the next load quicker.

        Raises BundleError if the file cannot be loaded, or has no initializer of such a name.
        """
        ...


def open_runtime(name: str, **options: Any) -> Runtime:
    """Open a backend by name. options: of its own, as `cuda_graphs` of aoti's `Runtime` is.

    Raises UnknownNameError for a name not in the table, MissingExtraError if its package is not installed,
    BackendUnavailableError if its device is not there. Never falls back to another one.
    """
    if name not in BACKENDS:
        raise UnknownNameError("backend", name, BACKENDS)
    module, which = BACKENDS[name]
    arguments = () if which is None else (which,)
    runtime: Runtime = importlib.import_module(module).Runtime(*arguments, **options)
    return runtime


def library(name: str) -> str:
    """What runs the graphs of an open backend: `onnxruntime 1.31.1`; empty if it does not say."""
    package = name.partition(":")[0]
    package = _LIBRARIES.get(package, package)
    version = getattr(sys.modules.get(package), "__version__", None)
    return f"{package} {version}" if version else ""
