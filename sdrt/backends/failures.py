"""What backends say alike when a library fails them."""

from __future__ import annotations

from pathlib import Path

from sdrt.errors import ComputeError


def no_memory_to_load(graph: Path) -> ComputeError:
    """What to raise if a graph's weights do not fit."""
    return ComputeError(f"out of memory while loading {graph}; close other programs or take fp16")


def one_line(error: BaseException | str) -> str:
    """A library's message, which may have many lines."""
    return " ".join(str(error).split())
