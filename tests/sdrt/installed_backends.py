"""The backends that open on this machine: tests of the protocol run on each of them."""

from __future__ import annotations

from sdrt.backends import BACKENDS, open_runtime
from sdrt.errors import BackendUnavailableError, MissingExtraError


def opens(name: str) -> bool:
    try:
        open_runtime(name)
    except (BackendUnavailableError, MissingExtraError):
        return False
    return True


INSTALLED = [name for name in BACKENDS if opens(name)]
