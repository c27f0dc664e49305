"""The way of an export, from a source to a bundle in its place."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from sdrt.errors import ExportError, InputError
from sdrt.manifest import Precision

from .source_options import SourceOptions
from .staging import check_target, resolve, staging

OPSETS = range(18, 24)
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the bytes of a graph beside the checkpoint."""

    precision: Precision
    opset: int
    half_weights: bool
    deep_cache: bool
    verify: bool

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise InputError(f"opset {self.opset} is not supported; choose {OPSETS[0]} to {OPSETS[-1]}")
        if self.half_weights and self.precision != "fp32":
            raise InputError("--half-weights is for --precision fp32; an fp16 bundle has FP16 weights anyway")


def export(
    source: str,
    target: Path | None = None,
    *,
    precision: Precision = "fp32",
    opset: int = 23,
    half_weights: bool = False,
    deep_cache: bool = False,
    force: bool = False,
    verify: bool = True,
    progress: Progress = lambda stage: None,
    **options: Unpack[SourceOptions],
) -> Path:
    """Export `source` to a bundle at `target` and return where it is.

    source, options: as in `sdrt_export.sources.open_model`.
    target: a folder that is not there yet, or a bundle if `force`; by default engines/<name>.
    half_weights: FP32 graphs whose weights are stored in FP16. deep_cache: a second graph of the U-Net,
    which reuses deep features. verify: measure each graph against PyTorch.
    progress: called with a line as each stage begins.

    Raises InputError for a wrong request before any work; ExportError if something fails, and then the
    target is as it was before. What a killed export had finished is used by the next one.
    """
    settings = Settings(
        precision=precision, opset=opset, half_weights=half_weights, deep_cache=deep_cache, verify=verify
    )
    target = resolve(target or Path("engines") / _name(source, precision))
    check_target(target, force=force)
    # Loading PyTorch takes seconds; what is refused for other reasons is refused before.
    from .filling import fill
    from .sources import open_model

    progress(f"reading {source}")
    model = open_model(source, half_weights=half_weights, progress=progress, **options)
    with staging(target, force=force) as place:
        try:
            fill(place, model, settings, progress)
            progress(f"moving into {target}")
            place.commit()
        except OSError as error:
            place.discard()
            raise ExportError(_describe(error, target)) from error
        except Exception:
            place.discard()
            raise
    return target


def _name(source: str, precision: Precision) -> str:
    """`demo`, `sd15-random` for random:sd15, the name of a folder or file; with -fp16 behind in FP16."""
    kind, _, architecture = source.partition(":")
    path = Path(source).expanduser().resolve()
    name = f"{architecture}-random" if kind == "random" else path.stem if path.is_file() else path.name
    return name + ("-fp16" if precision == "fp16" else "")


def _describe(error: OSError, target: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {target} became full; make room, or give another place with -o"
    return f"cannot write {target}: {error.strerror or error}"
