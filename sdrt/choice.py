"""Which backend `auto` is: the quickest that was measured here and found right, else the first of an order.

`sdrt bench tune` measures the backends that open on this machine and compares their pictures; what it finds
is kept in ~/.cache/sdrt/choices.json. Figures of another machine, of other graphs, or of another version of a
library count for nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec

from sdrt import this_machine
from sdrt.engines import EngineFolder
from sdrt.errors import BundleError, MissingExtraError
from sdrt.manifest import Manifest
from sdrt.private_files import cannot_keep, read_private, write_private
from sdrt.verified import cache_folder

AUTO = "auto"
_MAX_BYTES = 16_000_000
# distributions that a backend's speed depends on, by the part of its name before the colon
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "aoti": ("torch",),
}


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One backend as it was measured.

    backend: its full name, with the precision or device that it took. versions: of its libraries. seconds: of
    a picture, the median. psnr: of its worst picture against the reference's, in dB; None if they are equal.
    right: whether that was enough.
    """

    backend: str
    versions: dict[str, str]
    seconds: float
    psnr: float | None
    right: bool


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """All backends on one machine with one bundle at one size. reference: whose pictures are right."""

    machine: str
    graphs: str
    width: int
    height: int
    date: str
    reference: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A backend, and why it is this one, in a sentence."""

    backend: str
    why: str


def choose(bundle: Path, manifest: Manifest, *, width: int, height: int) -> Choice:
    """The backend for pictures of one size.

    Raises MissingExtraError if none is installed.
    """
    tuning = find_tuning(manifest, width=width, height=height)
    if tuning is not None:
        there = [
            one
            for one in tuning.trials
            if _as_measured(one) and has_engines(one.backend, bundle, manifest, width, height)
        ]
        right = sorted((one for one in there if one.right), key=lambda one: one.seconds)
        if right:
            return Choice(backend=right[0].backend, why=_measured(tuning, right))
    ordered = next(_in_order(bundle, manifest, width, height), None)
    if ordered is None:
        raise MissingExtraError("onnxruntime", "cpu")
    return Choice(
        backend=ordered,
        why="the first of a fixed order, as nothing was measured here with this model; measure with: "
        f"sdrt bench tune -m {bundle}",
    )


def find_tuning(manifest: Manifest, *, width: int, height: int) -> Tuning | None:
    """What was measured here with these graphs, at the size that has the nearest number of pixels."""
    graphs, machine = graphs_digest(manifest), machine_digest()
    fitting = [one for one in read() if (one.machine, one.graphs) == (machine, graphs)]
    return min(fitting, key=lambda one: abs(one.width * one.height - width * height), default=None)


def remember(tuning: Tuning) -> Path:
    """Keep what was measured, in place of what was known of the same; returns where.

    Raises SdrtError if it cannot be written.
    """
    key = _key(tuning)
    kept = [one for one in read() if _key(one) != key]
    path = _file()
    try:
        write_private(path, msgspec.json.format(msgspec.json.encode([*kept, tuning])) + b"\n")
    except OSError as error:
        raise cannot_keep(path, error) from None
    return path


def read() -> list[Tuning]:
    """All that was measured. A file that is absent or damaged holds nothing: it can be made again."""
    try:
        return msgspec.json.decode(read_private(_file(), _MAX_BYTES), type=list[Tuning])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []


def machine_digest() -> str:
    """What this machine computes with."""
    parts = "\n".join((this_machine.cpu(), *this_machine.gpus(), str(os.cpu_count())))
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def graphs_digest(manifest: Manifest) -> str:
    """What a bundle's graphs compute."""
    digests = sorted((name, manifest.digest_of(entry)) for name, entry in manifest.graphs.items())
    return hashlib.sha256(msgspec.json.encode(digests)).hexdigest()[:16]


def installed(backend: str) -> dict[str, str]:
    """The versions of a backend's libraries that are installed."""
    named = {name: this_machine.installed_version(name) for name in LIBRARIES[backend.partition(":")[0]]}
    return {name: version for name, version in named.items() if version is not None}


def _file() -> Path:
    return cache_folder() / "choices.json"


def _key(tuning: Tuning) -> tuple[str, str, int, int]:
    return tuning.machine, tuning.graphs, tuning.width, tuning.height


def _as_measured(trial: Trial) -> bool:
    """Whether its libraries are those that are installed."""
    return trial.backend.partition(":")[0] in LIBRARIES and installed(trial.backend) == trial.versions


def _measured(tuning: Tuning, right: Sequence[Trial]) -> str:
    best = right[0]
    others = ", ".join(f"{one.backend} {one.seconds:.3g} s" for one in right[1:])
    near = "equal to" if best.psnr is None else f"{best.psnr:.1f} dB from"
    return (
        f"the quickest of {len(right)} measured here at {tuning.width}x{tuning.height} on {tuning.date}: "
        f"{best.seconds:.3g} s a picture, {near} {tuning.reference}'s" + (f"; {others}" if others else "")
    )


def _in_order(bundle: Path, manifest: Manifest, width: int, height: int) -> Iterator[str]:
    """Backends that could run here, those for GPUs first; of their speed and sameness nothing is known."""
    gpu = bool(this_machine.gpus())
    for backend, package in (("tensorrt", "tensorrt"), ("aoti:cuda", "torch")):
        if gpu and find_spec(package) and has_engines(backend, bundle, manifest, width, height):
            yield backend
    if gpu and "onnxruntime-gpu" in installed("onnxruntime"):
        yield "onnxruntime:cuda"
    if find_spec("onnxruntime"):
        yield "onnxruntime"
    if find_spec("openvino"):
        yield "openvino:f32"


def has_engines(backend: str, bundle: Path, manifest: Manifest, width: int, height: int) -> bool:
    """Whether a backend needs no engines, or there is one of the bundle's U-Net for this size."""
    family, _, device = backend.partition(":")
    if family not in ("tensorrt", "aoti"):
        return True
    digest = manifest.digest_of(manifest.graphs["unet"])
    for folder in bundle.glob(f"{family}-{'cpu' if device == 'cpu' else 'sm'}*"):
        with contextlib.suppress(BundleError):
            for one in EngineFolder.at(folder).read():
                if (one.graph, one.digest) == ("unet", digest) and one.profile.makes(width, height):
                    return True
    return False
