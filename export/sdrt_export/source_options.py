"""What a SOURCE is read with, beside its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict


class SourceOptions(TypedDict, total=False):
    """Options of `sdrt export` that choose or change weights; left out, or None or empty, they do nothing.

    revision, token: of a repository of the hub, see `find_snapshot`. variant: of weight files, see
    `choose_weights`. config: of a single file, see `open_single_file`. vae: another one, see `with_vae`.
    loras: files with their weights, see `with_loras`. embeddings: files of textual inversion, each with its
    word where that is not the file's own, see `with_embeddings`. allow_pickle: read files that torch has
    pickled, tensors alone.
    """

    revision: str | None
    variant: str | None
    token: str | None
    config: Path | None
    vae: Path | None
    loras: Sequence[tuple[Path, float]]
    embeddings: Sequence[tuple[Path, str | None]]
    allow_pickle: bool


# as the command line calls those that not every source takes
NAMES = {
    "revision": "--revision",
    "variant": "--variant",
    "token": "--token",
    "config": "--config",
    "vae": "--vae",
    "loras": "--lora",
    "embeddings": "--textual-inversion",
}
