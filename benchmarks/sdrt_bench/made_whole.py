"""Folders that are there only when they are whole: what is made of a checkpoint outlives the run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """A hidden sibling to write to, which gets its name at the end; after an error nothing is left."""
    making = folder.with_name(f".{folder.name}-{os.getpid()}")
    making.mkdir(parents=True)
    try:
        yield making
        making.rename(folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
