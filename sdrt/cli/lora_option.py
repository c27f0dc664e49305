"""`--lora FILE[:WEIGHT]`, as `sdrt generate` and `sdrt export` take it."""

from __future__ import annotations

from pathlib import Path


def parse_lora(text: str) -> tuple[Path, float]:
    """File and weight: what stands behind the last colon, if it is a number; else all is the file's name."""
    file, _, weight = text.rpartition(":")
    try:
        return Path(file), float(weight)
    except ValueError:
        return Path(text), 1.0
