"""Files that are whole or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling that takes the place of `path` when the block ends without an error."""
    temporary = path.with_name(path.name + ".partial")
    yield temporary
    temporary.replace(path)
