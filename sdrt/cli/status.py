"""What a command is doing: a line on stderr that changes, if anybody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """What to call as each stage begins."""
    if not sys.stderr.isatty():
        yield lambda stage: None
        return
    from rich.console import Console
    from rich.text import Text

    from sdrt.cli.terminal import printable

    with Console(stderr=True).status("") as line:
        yield lambda stage: line.update(Text(printable(stage)))
