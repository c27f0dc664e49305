"""Which files passed a full check before: remembered by size, modification time and inode."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path


def cache_folder() -> Path:
    """Where sdrt keeps what it can make again: $XDG_CACHE_HOME/sdrt, by default ~/.cache/sdrt."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sdrt"


class VerifiedFiles:
    """A small JSON file, path -> [size, mtime in ns, inode, sha256]. Losing it costs one more check."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False
        try:
            self._files: dict[str, list[int | str]] = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            self._files = {}

    def has(self, file: Path, digest: str) -> bool:
        """Whether `file`, unchanged since, was found to have this SHA-256."""
        return self._files.get(str(file.resolve())) == _fingerprint(file, digest)

    def add(self, file: Path, digest: str) -> None:
        """Remember that `file` has this SHA-256."""
        self._files[str(file.resolve())] = _fingerprint(file, digest)
        self._changed = True

    def save(self) -> None:
        """Write it, if anything was added; a read-only home is no error."""
        if not self._changed:
            return
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self._files), encoding="utf-8")
            temporary.replace(self._path)
        self._changed = False


def _fingerprint(file: Path, digest: str) -> list[int | str]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino, digest]
