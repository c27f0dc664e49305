"""Where a bundle grows until it is whole, and how it takes its place.

Beside the target `demo` lie, while an export runs or after one was killed,

    .demo.sdrt-lock                held by the running export, with its process id inside
    .demo.sdrt-staging/bundle/     the bundle in the making; after the swap, the old one
    .demo.sdrt-staging/old/        the old bundle, only between two renames on systems that cannot swap
    .demo.sdrt-staging/finished.json    which graphs in bundle/ are done, see resume.py

At any moment the target is the old bundle, the new one, or absent, and the next export cleans up the rest.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sdrt.errors import ExportError, InputError
from sdrt.manifest import FILE_NAME

from . import filesystem


@dataclass(frozen=True)
class Staging:
    """A locked staging folder of one target."""

    target: Path
    root: Path
    force: bool

    @property
    def bundle(self) -> Path:
        """The bundle in the making."""
        return self.root / "bundle"

    @property
    def old(self) -> Path:
        """The bundle that was there before, between two renames."""
        return self.root / "old"

    def commit(self) -> None:
        """Put the bundle in the target's place and remove the old one.

        Raises InputError as check_target does, should something have come to the target meanwhile.
        """
        filesystem.sync_tree(self.bundle)
        check_target(self.target, force=self.force)
        if not os.path.lexists(self.target):
            filesystem.move_to_free(self.bundle, self.target)
        elif not filesystem.exchange(self.bundle, self.target):
            self.target.rename(self.old)
            self.bundle.rename(self.target)
        filesystem.sync(self.target.parent)
        self.discard()

    def discard(self) -> None:
        """Remove the staging folder and all in it."""
        shutil.rmtree(self.root, ignore_errors=True)

    def recover(self) -> None:
        """Put the old bundle back if an export was killed between two renames."""
        if self.old.exists() and not os.path.lexists(self.target):
            self.old.rename(self.target)
        shutil.rmtree(self.old, ignore_errors=True)


def resolve(target: Path) -> Path:
    """Absolute path of the bundle, symlinks followed: a swap must not replace a link by a folder."""
    try:
        resolved = target.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot follow {target}: {error}; give another place with -o") from None
    if not resolved.name:
        raise InputError(f"{target} cannot be a bundle; give another place with -o")
    return resolved


def check_target(target: Path, *, force: bool) -> None:
    """Raise InputError unless a bundle may be put at `target`. Only a bundle is ever replaced."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise InputError(f"{target} is a file; give another place with -o")
    if not (target / FILE_NAME).is_file():
        raise InputError(
            f"{target} exists and is not a bundle (no {FILE_NAME}), so it is left alone; use another -o"
        )
    if not force:
        raise InputError(f"{target} exists; replace it with --force, or give another place with -o")


@contextlib.contextmanager
def staging(target: Path, *, force: bool) -> Iterator[Staging]:
    """Lock `target` and yield its staging folder, which may hold the remains of a killed export.

    Raises InputError as check_target does, ExportError at once if another export holds the lock or the place
    cannot be written to. The lock ends with the block or the process; the folder stays unless discarded.
    """
    check_target(target, force=force)
    with locked(target):
        place = Staging(target, target.parent / f".{target.name}.sdrt-staging", force)
        place.recover()
        check_target(target, force=force)
        place.bundle.mkdir(parents=True, exist_ok=True)
        yield place


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Keep other exports from `target` until the block or the process ends.

    Raises ExportError at once if another one holds the lock, or if the place cannot be written to.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(target)
    except OSError as error:
        raise ExportError(
            f"cannot write to {target.parent}: {error.strerror}; give another place with -o"
        ) from None
    try:
        yield
    finally:
        _lock_path(target).unlink(missing_ok=True)
        os.close(lock)


def _lock_path(target: Path) -> Path:
    return target.parent / f".{target.name}.sdrt-lock"


def _lock(target: Path) -> int:
    path = _lock_path(target)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise ExportError(
                f"another export to {target} is running (process {holder}); wait for it"
            ) from None
        # Its last holder unlinks the file before letting go, so the lock may be on a name that is gone.
        try:
            current = path.stat().st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            current = False
        if current:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return descriptor
        os.close(descriptor)
