"""Which graphs of a killed export can be kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sdrt.manifest import FileEntry, GraphEntry, GraphName

from . import filesystem
from .staging import Staging

FILE_NAME = "finished.json"


class FinishedGraph(msgspec.Struct, frozen=True, kw_only=True):
    """A graph that is written, measured and synced.

    key: over everything that went into it, see `key_of`. files: by path inside the bundle.
    """

    key: str
    entry: GraphEntry
    files: dict[str, FileEntry]


def key_of(**inputs: object) -> str:
    """SHA-256 over all that decides the bytes of a graph, and over the code of this package."""
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_finished(staging: Staging, keys: Mapping[GraphName, str]) -> dict[GraphName, FinishedGraph]:
    """Graphs in the staging folder with these keys and unchanged files; everything else is removed."""
    try:
        records = msgspec.json.decode(
            (staging.root / FILE_NAME).read_bytes(), type=dict[GraphName, FinishedGraph]
        )
    except (OSError, msgspec.MsgspecError):
        records = {}
    kept = {
        name: record
        for name, record in records.items()
        if record.key == keys[name] and all(_matches(staging.bundle / p, e) for p, e in record.files.items())
    }
    _remove_others(staging.bundle, {path for record in kept.values() for path in record.files})
    return kept


def write_finished(staging: Staging, finished: dict[GraphName, FinishedGraph]) -> None:
    """Record the finished graphs, after their files are on the disk."""
    temporary = staging.root / (FILE_NAME + ".partial")
    temporary.write_bytes(msgspec.json.encode(finished))
    filesystem.sync(temporary)
    temporary.rename(staging.root / FILE_NAME)
    filesystem.sync(staging.root)


def describe(path: Path) -> FileEntry:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(size=path.stat().st_size, sha256=digest)


def _matches(path: Path, entry: FileEntry) -> bool:
    try:
        return path.stat().st_size == entry.size and describe(path) == entry
    except OSError:
        return False


def _remove_others(bundle: Path, kept: set[str]) -> None:
    for folder, folders, files in os.walk(bundle, topdown=False):
        for name in files:
            path = Path(folder, name)
            if path.relative_to(bundle).as_posix() not in kept:
                path.unlink()
        for name in folders:
            path = Path(folder, name)
            if path.is_symlink():
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()
