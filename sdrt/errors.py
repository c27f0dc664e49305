"""Everything sdrt raises on purpose.

SdrtError                     exit 1   something failed
├── InputError                exit 2   the request or an argument is wrong
│   └── UnknownNameError      exit 2   no such sampler, backend, model: lists the nearest
├── BundleError               exit 2   a bundle is absent, damaged or made by another version
├── EngineError               exit 2   no engine fits this machine or graph, or it is not trusted
├── BackendUnavailableError   exit 2   a backend or device was asked for and is not there
├── MissingExtraError         exit 2   a package is not installed: prints the command that installs it
├── ExportError               exit 1   an export failed and kept nothing
└── ComputeError              exit 1   NaN, Inf or out of memory while computing

A message is one line: it names the thing, says what was expected, and how to mend it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 80  # characters of a name in a message


class SdrtError(Exception):
    """Root of the tree; `exit_code` is what the command line exits with."""

    exit_code = 1


class InputError(SdrtError):
    """The request or an argument is wrong."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name that is in no table; the message lists the nearest of `known`, or the first if none is near."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = list(known)
        spellings = {spelling.lower(): spelling for spelling in reversed(known)}
        near = difflib.get_close_matches(name.lower(), sorted(spellings), n=3, cutoff=0.4)
        near = [spellings[key] for key in near] or known[:8]
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
        super().__init__(f"unknown {kind} {shown!r}; did you mean {' or '.join(near)}?")


class BundleError(SdrtError):
    """A bundle is absent, damaged, unsafe, or made by another version of sdrt."""

    exit_code = 2


class EngineError(SdrtError):
    """No engine fits this machine or graph, or it was not built here and is not trusted."""

    exit_code = 2


class BackendUnavailableError(SdrtError):
    """A backend, execution provider or device was asked for and is not there."""

    exit_code = 2


class MissingExtraError(SdrtError):
    """An optional package is not installed.

    extra: the name of the extra of the `sdrt` distribution that brings it, as in `sdrt[cpu]`.
    """

    exit_code = 2

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'sdrt[{extra}]'")


class ExportError(SdrtError):
    """An export failed; the target is as it was before."""


class ComputeError(SdrtError):
    """The computation failed: NaN or Inf from a graph, or out of memory."""
