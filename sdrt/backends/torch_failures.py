"""What torch says when it fails: one line of it, and whether it was memory."""

from __future__ import annotations

import re

_WANTED = re.compile(r"tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)", re.IGNORECASE)
_UNITS = {"bytes": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def first_line(error: BaseException) -> str:
    """Its message; a list of C++ frames may follow."""
    return next(iter(str(error).splitlines()), type(error).__name__).strip()


def memory_wanted(error: BaseException) -> str | None:
    """` 1.5 GB` if an allocation failed, empty if it does not say how large; None for any other failure."""
    message = str(error)
    found = _WANTED.search(message)
    if found:
        return f" {float(found[1]) * _UNITS[found[2].lower()] / 1e9:.1f} GB"
    if isinstance(error, MemoryError) or "out of memory" in message.lower():
        return ""
    return None
