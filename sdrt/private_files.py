"""Small files that a later run believes: read if they are plain and nobody else can have written them."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from sdrt.errors import SdrtError

_OTHERS_WRITE = 0o022


def is_private(path: Path) -> bool:
    """Whether nobody but this user can write to a file or a folder. Raises OSError if it is not there."""
    return _is_private(path.stat())


def protect(path: Path) -> None:
    """Take the right to write, which a umask of 002 gives to a group, from others; only of what is ours."""
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        if mode & _OTHERS_WRITE:
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS_WRITE)


def read_plain(path: Path, limit: int) -> bytes:
    """A file of at most `limit` bytes.

    Raises OSError if it cannot be read, is longer, or is no plain file: a pipe would be waited for.
    """
    return _read(path, limit)[0]


def read_private(path: Path, limit: int) -> bytes:
    """The same of a file that nobody else can write, in such a folder. Raises OSError if others can."""
    content, status = _read(path, limit)
    if not _is_private(status) or not is_private(path.parent):
        raise PermissionError(f"others can write to {path}")
    return content


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, for this user alone; its folder is made. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    protect(path.parent)
    making = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(content)
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)


def said(error: OSError) -> str:
    """Why, without the file's name."""
    return error.strerror or str(error)


def cannot_keep(path: Path, error: OSError) -> SdrtError:
    """What to raise where something was to be kept."""
    return SdrtError(f"cannot write {path}: {said(error)}; set XDG_CACHE_HOME to a folder of yours")


def _read(path: Path, limit: int) -> tuple[bytes, os.stat_result]:
    # opening a pipe would wait for its other end
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is no plain file")
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"{path} has more than {limit} bytes")
    return content, status


def _is_private(status: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE
