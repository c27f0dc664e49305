"""Backends by name. Adding one is a module with a `load` function and a line in the table below."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from sdrt.backends.protocol import Array, Backend, Buffer, Device
from sdrt.errors import UnknownNameError

__all__ = ["BACKENDS", "Array", "Backend", "Buffer", "Device", "Runtime", "open_runtime"]

# name -> module; imported only when asked for
BACKENDS: Mapping[str, str] = {
    "onnxruntime": "sdrt.backends.onnxruntime",
}


class Runtime(Protocol):
    """A backend opened on a device: loads graphs for it."""

    name: str
    device: Device

    def load(
        self, graph: Path, *, small: bool = False, overrides: Mapping[str, Array] = MappingProxyType({})
    ) -> Backend:
        """Load one graph. small: it is a handful of operators, not worth more than one thread.

        overrides: initializers to take in place of the file's, by name, in their dtypes. The backend may keep
        them as they are while the graph is loaded: they must not be written to.

        Raises BundleError if the file cannot be loaded, or has no initializer of such a name.
        """
        ...


def open_runtime(name: str) -> Runtime:
    """Open a backend by name.

    Raises UnknownNameError for a name not in the table, MissingExtraError if its package is not installed,
    BackendUnavailableError if its device is not there. Never falls back to another one.
    """
    if name not in BACKENDS:
        raise UnknownNameError("backend", name, BACKENDS)
    runtime: Runtime = importlib.import_module(BACKENDS[name]).Runtime()
    return runtime
