"""Graphs as a backend made them for this machine, kept in the user's cache for the next process.

A saved graph is a folder of files under a name that tells what it was made of: the source graph's SHA-256,
the library and its version, its settings, and the CPU. Another of these is another name, so nothing is ever
out of date. A folder is trusted as far as its owner: nobody else may write to it, and its files are those
that were written, by size, times and inode.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sdrt.private_files import is_private
from sdrt.this_machine import cpu
from sdrt.verified import cache_folder, state

_LIMIT = 24_000_000_000  # bytes of all saved graphs: room for two U-Nets of Stable Diffusion XL in FP32
_STALE = 24 * 3600.0  # seconds after which an unfinished folder has been abandoned
_RECORD = "files.json"


@dataclass(frozen=True, kw_only=True)
class SavedGraph:
    """Where one graph may be kept.

    folder: of all saved graphs. digest: what the graph and its weights hold. size: bytes of these.
    """

    folder: Path
    digest: str
    size: int

    def find(self, settings: dict[str, str]) -> Path | None:
        """The folder of what was made with these settings; None if it is not there as it was written."""
        entry = self._entry(settings)
        try:
            if not is_private(self.folder):
                return None
            files = json.loads((entry / _RECORD).read_text(encoding="utf-8"))
            if files != _fingerprints(entry):
                return None
            os.utime(entry / _RECORD)  # used now; the record is not among its own files
        except (OSError, ValueError):
            return None
        return entry

    @contextmanager
    def make(self, settings: dict[str, str]) -> Iterator[Path | None]:
        """An empty folder to write to, which becomes the saved graph if nothing is raised.

        None if there is no room: on the disk, or in what saved graphs may take.
        """
        entry = self._entry(settings)
        making = entry.with_name(f".{entry.name}.{os.getpid()}")
        if not self._room(making):
            yield None
            return
        try:
            yield making
            with contextlib.suppress(OSError):
                (making / _RECORD).write_text(json.dumps(_fingerprints(making)), encoding="utf-8")
                shutil.rmtree(entry, ignore_errors=True)  # a damaged one
                making.replace(entry)
                _evict(self.folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _entry(self, settings: dict[str, str]) -> Path:
        made_of = {"graph": self.digest, "cpu": cpu(), **settings}
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
        return self.folder / key[:32]

    def _room(self, making: Path) -> bool:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # FP16 weights are saved as FP32
            if not is_private(self.folder) or 2 * self.size > min(
                _LIMIT, shutil.disk_usage(self.folder).free
            ):
                return False
            making.mkdir(mode=0o700)
        except OSError:
            return False
        return True


def saved_graphs_folder() -> Path:
    """The folder of all of them."""
    return cache_folder() / "graphs"


def saved_size(folder: Path) -> int:
    """Bytes of all saved graphs."""
    return sum(file.stat().st_size for file in folder.glob("*/*"))


def _fingerprints(entry: Path) -> dict[str, list[int]]:
    found = {}
    for file in sorted(entry.iterdir()):
        if file.name != _RECORD:
            found[file.name] = state(file)
    return found


def _evict(folder: Path) -> None:
    """Remove what was used longest ago until the rest is within the limit, and what nobody finished."""
    for unfinished in folder.glob(".*"):
        if time.time() - unfinished.stat().st_mtime > _STALE:
            shutil.rmtree(unfinished, ignore_errors=True)
    records = sorted(folder.glob(f"[!.]*/{_RECORD}"), key=lambda record: record.stat().st_mtime)
    for record in records[:-1]:
        if saved_size(folder) <= _LIMIT:
            return
        shutil.rmtree(record.parent, ignore_errors=True)
