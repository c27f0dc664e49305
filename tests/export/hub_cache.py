"""A cache of the hub with a repository in it, as huggingface_hub leaves it after a download."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_cached(checkpoint: Path, cache: Path, repo_id: str, *, leave_out: tuple[str, ...] = ()) -> Path:
    """Put the files of a folder into `cache` as `repo_id` at `main`; returns its snapshot folder.

    Files lie in blobs/ under their hash; a snapshot is a folder of links to them.
    """
    root = cache / f"models--{repo_id.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    for path in sorted(checkpoint.rglob("*")):
        name = path.relative_to(checkpoint)
        if path.is_dir() or name.as_posix() in leave_out:
            continue
        blob = root / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, blob)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(Path(*[".."] * (len(name.parts) + 1), "blobs", blob.name))
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    return snapshot
