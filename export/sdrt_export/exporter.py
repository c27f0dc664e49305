"""The way of an export, from a source to a bundle in its place."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdrt.errors import ExportError, InputError
from sdrt.manifest import Precision
from sdrt.textual_inversion import read_embedding

from .staging import check_target, resolve, staging

if TYPE_CHECKING:
    from .checkpoint import Model

OPSETS = range(18, 24)
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the bytes of a graph beside the checkpoint."""

    precision: Precision
    opset: int
    half_weights: bool
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
    force: bool = False,
    verify: bool = True,
    revision: str | None = None,
    variant: str | None = None,
    token: str | None = None,
    config: Path | None = None,
    vae: Path | None = None,
    loras: Sequence[tuple[Path, float]] = (),
    embeddings: Sequence[tuple[Path, str | None]] = (),
    allow_pickle: bool = False,
    progress: Progress = lambda stage: None,
) -> Path:
    """Export `source` to a bundle at `target` and return where it is.

    source, revision, variant, token, config, vae, allow_pickle: as in `sdrt_export.sources.open_source`; or a
    folder of graphs, see `sdrt_export.optimum`, which takes none of these options.
    target: a folder that is not there yet, or a bundle if `force`; by default engines/<name>.
    half_weights: FP32 graphs whose weights are stored in FP16. verify: measure each graph against PyTorch.
    loras: LoRA files with their weights, to become part of the model.
    embeddings: files of textual inversion, each with its word where that is not the file's own.
    progress: called with a line as each stage begins.

    Raises InputError for a wrong request before any work; ExportError if something fails, and then the
    target is as it was before. What a killed export had finished is used by the next one.
    """
    settings = Settings(precision=precision, opset=opset, half_weights=half_weights, verify=verify)
    target = resolve(target or Path("engines") / _name(source, precision))
    check_target(target, force=force)
    learned = [read_embedding(file, word, allow_pickle=allow_pickle) for file, word in embeddings]
    # Loading PyTorch takes seconds; what is refused for other reasons is refused before.
    from .filling import fill
    from .optimum import is_onnx_folder, open_onnx_folder
    from .sources import open_source

    progress(f"reading {source}")
    model: Model
    if is_onnx_folder(Path(source).expanduser()):
        options = {"--revision": revision, "--variant": variant, "--token": token}
        options |= {"--config": config, "--vae": vae, "--lora": loras, "--textual-inversion": learned}
        model = open_onnx_folder(source, [option for option, value in options.items() if value])
    else:
        model = checkpoint = open_source(
            source,
            revision=revision,
            variant=variant,
            token=token,
            config=config,
            vae=vae,
            allow_pickle=allow_pickle,
            progress=progress,
        )
        if loras:
            from .lora import with_loras

            model = checkpoint = with_loras(checkpoint, loras, half_weights=half_weights)
        if learned:
            from .textual_inversion import with_embeddings

            model = with_embeddings(checkpoint, learned)
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
