"""A picture made again: its model and files found by their hashes, the result compared with it.

A picture names files, never folders; where they are looked for is the caller's choice, and what is found is
taken for the same by its hash alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdrt import manifest as manifests
from sdrt.bundle import sha256
from sdrt.errors import BundleError, InputError
from sdrt.manifest import Manifest
from sdrt.metadata import OWN, NamedFile, RecordedSettings, graph_digests, pixels_sha256
from sdrt.metadata.checked import plain, shown
from sdrt.metadata.own import read_own
from sdrt.metadata.written import unet_sha256
from sdrt.models import exported_bundles, find_bundle
from sdrt.safetensors_file import SafetensorsFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sdrt.pictures import Picture

_ENDINGS = ("", ".safetensors", ".pt", ".bin")
_SHORT = 10  # hex digits of a hash in a message
# AUTOMATIC1111's older hashes have eight digits, and are of a part of the file
_SHA256 = re.compile(r"[0-9a-f]{10,64}")


def find_model(made: RecordedSettings) -> Path:
    """The bundle that a picture was made with, among those under `engines/` and the demo model.

    By the hashes of its graphs, else of its U-Net's weights or of the file that was exported; a model that
    another program names and no hash tells, by its name.
    Raises InputError naming the model and its hash if there is none.
    """
    best, found = 0, None
    for path, manifest in _bundles():
        likeness = _likeness(made, manifest, path)
        if likeness > best:
            best, found = likeness, path
    if found is not None:
        return found
    model = made.model
    name = shown(model.name) if model.name else "a model that it does not name"
    digest = f" (hash {plain(model.hash)[:_SHORT]})" if model.hash else ""
    raise InputError(
        f"it was made with {name}{digest}, which is neither under {Path('engines')} nor the demo; "
        "export it with sdrt export, or give another with -m"
    )


def model_notes(made: RecordedSettings, manifest: Manifest) -> list[str]:
    """In what a model is not the one that a picture was made with, a line each."""
    model, written_here = made.model, bool(made.model.graphs) or made.version is not None
    if written_here:
        if not _same_weights(made, manifest):
            was, now = plain(model.hash or "unknown")[:_SHORT], unet_sha256(manifest)[:_SHORT]
            return [f"{manifest.name} (hash {now}) is not its model, {shown(model.name)} (hash {was})"]
        digests = graph_digests(manifest)
        others = [name for name, digest in model.graphs.items() if digests.get(name) != digest]
        if others:
            return [f"{manifest.name} is another export of its model: {', '.join(map(plain, others))} differ"]
        return []
    if _same_weights(made, manifest):
        return []
    said = f"{shown(model.name)} (hash {plain(model.hash)})" if model.hash else shown(model.name or "")
    known = manifest.made_by.file_sha256
    if known and model.hash and _SHA256.fullmatch(model.hash):
        return [f"{manifest.name} (hash {known[:_SHORT]}) is not its model, {said}"]
    return [f"whether {manifest.name} is its model, {said}, no hash can tell"]


def was_changed(made: RecordedSettings, pixels: NDArray[np.uint8] | None) -> bool:
    """Whether a picture has other pixels than the ones that were written; pixels: None if nobody can tell."""
    if made.pixels_sha256 is None or pixels is None:
        return False
    return pixels_sha256(pixels) != made.pixels_sha256


def find_file(named: NamedFile, called: str, folders: Sequence[Path], option: str) -> Path:
    """The file that a picture names, in the first of the folders that has it.

    called: what it is; option: what else gives it. Raises InputError naming the file and its hash.
    """
    others = []
    for folder in folders:
        for ending in _ENDINGS:
            path = folder / (named.name + ending)
            if not path.is_file():
                continue
            if is_same(path, named):
                return path
            others.append(path)
    digest = f" (SHA-256 {named.sha256})" if named.sha256 else ""
    where = f"{others[0]} is another file" if others else "which is neither beside it nor in this folder"
    raise InputError(f"it was made with the {called} {named.name}{digest}, {where}; give it with {option}")


def is_same(path: Path, named: NamedFile) -> bool:
    """Whether a file has the hash of the one that is named; any has, if that has none."""
    if named.sha256 is None:
        return True
    if sha256(path).startswith(named.sha256):
        return True
    return (
        named.part == "tensors" and path.suffix == ".safetensors" and _tensors(path).startswith(named.sha256)
    )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """identical: whether the pixels are those of the picture; None if nothing tells what these were.

    differs: what else is not as it was, a line each.
    """

    identical: bool | None
    differs: tuple[str, ...]


def compare(made: RecordedSettings, pixels: NDArray[np.uint8] | None, picture: Picture) -> Comparison:
    """Compare a new picture with the one that `made` is read of; pixels: its file's, where they are exact."""
    before = made.pixels_sha256
    if before is None and pixels is not None:
        before = pixels_sha256(pixels)
    identical = None if before is None else pixels_sha256(picture.pixels) == before
    if identical:
        return Comparison(identical=True, differs=())
    differs = tuple(_differences(made, read_own(picture.texts[OWN])))
    return Comparison(identical=identical, differs=differs)


def _bundles() -> Iterator[tuple[Path, Manifest]]:
    for name in exported_bundles():
        try:
            path = find_bundle(name)
            yield path, manifests.read(path / manifests.FILE_NAME)
        except BundleError:  # a damaged one is not the one
            continue


def _likeness(made: RecordedSettings, manifest: Manifest, path: Path) -> int:
    """3: the same graphs; 2: the same weights; 1: the same name, where there is nothing else to go by."""
    if made.model.graphs and made.model.graphs.items() <= graph_digests(manifest).items():
        return 3
    if _same_weights(made, manifest):
        return 2
    by_name = made.version is None and not made.model.graphs and made.model.name
    names = {manifest.name.lower(), path.name.lower()}
    return 1 if by_name and made.model.name and made.model.name.lower() in names else 0


def _same_weights(made: RecordedSettings, manifest: Manifest) -> bool:
    said = made.model.hash
    if not said:
        return False
    hashes = (unet_sha256(manifest), manifest.made_by.file_sha256 or "")
    return any(known.startswith(said) for known in hashes)


def _tensors(path: Path) -> str:
    """SHA-256 of what follows the header."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        stream.seek(SafetensorsFile(path, whole_numbers=True).data_start)
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _differences(made: RecordedSettings, now: RecordedSettings) -> Iterator[str]:
    for key, was in made.settings.items():
        if now.settings.get(key) != was:
            yield f"{key} {_said(now.settings.get(key))} (was {_said(was)})"
    for what, mine, theirs in (
        ("LoRAs", now.loras, made.loras),
        ("embeddings", now.embeddings, made.embeddings),
        ("pictures it starts from", dict(now.pictures), dict(made.pictures)),
    ):
        if mine != theirs:
            yield f"other {what}"
    if made.version is None:
        yield f"{made.writer} made it"
        return
    for what, new, old in (
        ("sdrt", now.version, made.version),
        ("backend", now.backend, made.backend),
        ("library", now.library, made.library),
        ("machine", now.machine, made.machine),
    ):
        if old is not None and new != old:
            yield f"{what} {new} (was {plain(old)})"
    if now.model.hash != made.model.hash:
        yield f"model {now.model.name} (was {plain(made.model.name)})"
    elif made.model.graphs and now.model.graphs != made.model.graphs:
        yield f"another export of {now.model.name}"


def _said(value: Any) -> str:
    return shown(value)
