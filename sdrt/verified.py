"""Which files passed a full check before: remembered by size, times of modification and change, and inode."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from sdrt.private_files import read_private, write_private
from sdrt.strict_json import read_json

State = list[int]
_MAX_BYTES = 16_000_000  # of the record: a hundred thousand files
# where nothing can be read or written
_NOWHERE = Path(os.devnull) / "sdrt"


def cache_folder() -> Path:
    """Where sdrt keeps what it can make again: $XDG_CACHE_HOME/sdrt, by default ~/.cache/sdrt.

    For a user without a home, as in containers, it is a path where nothing is and nothing can be made: runs
    do without. A relative $XDG_CACHE_HOME does not count, as the XDG specification has it.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():
        return base / "sdrt"
    try:
        return Path.home() / ".cache" / "sdrt"
    except RuntimeError:
        return _NOWHERE


class VerifiedFiles:
    """A small JSON file, path -> [size, mtime in ns, ctime in ns, inode, sha256].

    Losing it costs one more check. It is believed only if nobody else can write it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False
        self._files: dict[str, list[int | str]] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            self._files = dict(read_json(read_private(path, _MAX_BYTES)))

    def has(self, file: Path, digest: str) -> bool:
        """Whether `file`, unchanged since, was found to have this SHA-256."""
        return self._files.get(str(file.resolve())) == [*state(file), digest]

    def add(self, file: Path, digest: str, before: State | None = None) -> None:
        """Remember that `file` has this SHA-256.

        before: its state before it was hashed; if it changed since, nothing is remembered.
        """
        now = state(file)
        if before is None or before == now:
            self._files[str(file.resolve())] = [*now, digest]
            self._changed = True

    def save(self) -> None:
        """Write it, if anything was added; a read-only home is no error."""
        if self._changed:
            with contextlib.suppress(OSError):
                write_private(self._path, json.dumps(self._files).encode())
        self._changed = False


def state(file: Path) -> State:
    """What tells a change of a file: size, times, inode. Its time of change cannot be set, as mtime can."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
