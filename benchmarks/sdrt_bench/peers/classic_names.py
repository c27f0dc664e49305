"""Checkpoints as older programs know them.

transformers 5.23 saves a CLIP text encoder without the prefix `text_model.` that published checkpoints have.
Programs that look for the prefix do not stop: transformers 4.57 and 5.5 warn, and go on with random weights
for all 52 tensors of the demo model's. So peers are given a copy with the prefix, which 5.23 reads as well.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

from sdrt_bench.made_whole import made_whole

PREFIX = "text_model."
_WEIGHTS = Path("text_encoder", "model.safetensors")


def with_classic_names(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint itself where it has the prefix, else `folder`, made of links and one file of its own.

    checkpoint: a folder in diffusers layout. folder: need not exist yet; one that does is taken as it is.
    """
    weights = checkpoint / _WEIGHTS
    if not weights.is_file() or any(name.startswith(PREFIX) for name in _read_header(weights)[0]):
        return checkpoint
    if not folder.exists():
        with made_whole(folder) as making:
            (making / _WEIGHTS.parent).mkdir()
            _link_all(checkpoint, making, beside=_WEIGHTS.parts[0])
            _link_all(weights.parent, making / _WEIGHTS.parent, beside=weights.name)
            _rename(weights, making / _WEIGHTS)
    return folder


def _link_all(source: Path, target: Path, *, beside: str) -> None:
    for entry in source.iterdir():
        if entry.name != beside:
            (target / entry.name).symlink_to(entry.resolve(), target_is_directory=entry.is_dir())


def _rename(source: Path, target: Path) -> None:
    """Write a text encoder's file with the prefix: another header before the same data."""
    header, start = _read_header(source)
    renamed = {
        name if name.startswith(("__", "text_projection.")) else PREFIX + name: entry
        for name, entry in header.items()
    }
    text = json.dumps(renamed).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the data
    target.write_bytes(struct.pack("<Q", len(text)) + text + source.read_bytes()[start:])


def _read_header(path: Path) -> tuple[dict[str, object], int]:
    """The entries of a safetensors file by name, and where its data starts."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length)), 8 + length
