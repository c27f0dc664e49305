"""Any source of `sdrt export` as a folder in diffusers layout: what the other programs take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdrt.errors import InputError
from sdrt_bench.made_whole import made_whole
from sdrt_export.bundle import write_configs
from sdrt_export.checkpoint import Checkpoint
from sdrt_export.sources import DEMO_FOLDER, open_source


def checkpoint_folder(source: str, folder: Path, progress: Callable[[str], None]) -> Path:
    """The source itself if it is such a folder; else written to `folder`, unless it is there already.

    Raises InputError for a model that makes no picture of a prompt alone, and what opening a source raises.
    """
    if source == "demo":
        return DEMO_FOLDER
    if Path(source).is_dir():
        return Path(source)
    if not folder.is_dir():
        checkpoint = open_source(source)
        if checkpoint.configs.conditioning.picture is not None:
            raise InputError(f"{source} changes pictures; peers are compared at making them from a prompt")
        with made_whole(folder) as making:
            _write(checkpoint, making, progress)
    return folder


def _write(checkpoint: Checkpoint, folder: Path, progress: Callable[[str], None]) -> None:
    """One component in memory at a time."""
    for component in checkpoint.parameters:
        progress(f"writing {component} of {checkpoint.source}")
        model: Any = checkpoint.build(component)
        weights = checkpoint.weights(component)
        model.load_state_dict({name: weights[name] for name, _ in model.named_parameters()}, assign=True)
        model.save_pretrained(folder / component)
    write_configs(checkpoint, folder)
