"""The backends that open on this machine and load any graph: tests of the protocol run on each of them."""

from __future__ import annotations

from sdrt.backends import BACKENDS, open_runtime
from sdrt.backends.graph_runtime import GraphRuntime
from sdrt.errors import BackendUnavailableError, MissingExtraError


def opens(name: str) -> bool:
    try:
        return isinstance(open_runtime(name), GraphRuntime)
    except (BackendUnavailableError, MissingExtraError):
        return False


INSTALLED = [name for name in BACKENDS if opens(name)]
