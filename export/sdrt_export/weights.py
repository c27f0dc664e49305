"""Weight files on disk, looked at before any library opens them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

from sdrt import strict_json
from sdrt.errors import ExportError

from .variants import choose_weights

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_LFS_START = b"version https://git-lfs"
_MAX_HEADER = 100_000_000


def find_weights(folder: Path, stem: str, variant: str | None = None) -> tuple[list[Path], str | None]:
    """Find the safetensors files of one component: those that `choose_weights` takes.

    Returns the files and their variant. Raises ExportError if there are none, or only pickles.
    """
    names = {path.name for path in folder.iterdir() if path.exists()} if folder.is_dir() else set()
    chosen = choose_weights(names, stem, variant)
    if chosen is None:
        raise ExportError(why_no_weights(names, stem, str(folder)))
    name, variant = chosen
    if name.endswith(".json"):
        return [folder / shard for shard in shards(folder / name)], variant
    return [folder / name], variant


def why_no_weights(names: Iterable[str], stem: str, called: str) -> str:
    """What to say of a component without safetensors."""
    if any(Path(name).suffix in PICKLES for name in names):
        return (
            f"{called} has only pickled weights, which can run any code when loaded, so they are refused; "
            "where you trust them, convert: StableDiffusionPipeline.from_pretrained(...).save_pretrained(...)"
        )
    return f"{called} has no {stem}.safetensors; the checkpoint is incomplete"


def shards(index: Path) -> list[str]:
    """The files that a `*.safetensors.index.json` lists. Raises ExportError if they do not lie beside it."""
    names = sorted(set(read_json(index).get("weight_map", {}).values()))
    if not names or any(Path(name).name != name for name in names):
        raise ExportError(f"{index} names no files beside itself; download the checkpoint again")
    return names


def count_parameters(path: Path) -> int:
    """Count the numbers in a safetensors file by its header, and check that the file is whole.

    Layout: https://github.com/huggingface/safetensors#format. Raises ExportError if it is a pickle, a git-lfs
    pointer, truncated, or otherwise no safetensors file.
    """
    refuse_pointer(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(_PICKLE_STARTS):
            raise ExportError(
                f"{path} is a pickle by another name, which can run any code when loaded; it is refused"
            )
        length = int.from_bytes(start, "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise ExportError(f"{path} is truncated or no safetensors file; download it again")
        try:
            header = strict_json.read_json(file.read(length))
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            end = max(entry["data_offsets"][1] for entry in tensors)
            count: int = sum(prod(entry["shape"]) for entry in tensors)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise ExportError(f"{path} has no valid safetensors header; download it again") from None
    if 8 + length + end != size:
        raise ExportError(
            f"{path} is truncated: {size} of {8 + length + end} bytes are there; download it again"
        )
    return count


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ExportError if it is absent, a git-lfs pointer, or something else."""
    refuse_pointer(path)
    try:
        fields = strict_json.read_json(path.read_text(encoding="utf-8"), constants=True)
    except ValueError as error:
        raise ExportError(f"{path} is not valid JSON: {error}; download it again") from None
    if not isinstance(fields, dict):
        raise ExportError(f"{path} should hold a JSON object; download it again")
    return fields


def refuse_pointer(path: Path) -> None:
    """Raise ExportError if `path` is absent or a git-lfs pointer."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_START))
    except FileNotFoundError:
        raise ExportError(f"{path} is missing; the checkpoint is incomplete") from None
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror}") from None
    if start == _LFS_START:
        raise ExportError(f"{path} is a git-lfs pointer, not the file itself; fetch it with: git lfs pull")


def fingerprint(folder: Path, files: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of `files`, all of them inside `folder`."""
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()
