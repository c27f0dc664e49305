"""What the standard library does not have for files that must survive a power cut."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from pathlib import Path

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Wait until all files and directories under `folder` are on the disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step; both exist at every moment. False if this system cannot."""
    return _renameat2(first, second, _RENAME_EXCHANGE)


def move_to_free(source: Path, target: Path) -> None:
    """Rename `source`, never onto something that exists. Raises FileExistsError."""
    if _renameat2(source, target, _RENAME_NOREPLACE):
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def free_bytes(path: Path) -> int:
    """Free space on the disk of `path`, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def tree_size(folder: Path) -> int:
    """Bytes in all files under `folder`; 0 if it is absent."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _renameat2(source: Path, target: Path, flags: int) -> bool:
    """renameat2(2) of Linux; False where the kernel, the C library or the file system lacks it."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(target))
