"""The way of an export, from a source to a bundle in its place."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from sdrt.errors import ExportError, InputError
from sdrt.manifest import GraphEntry, Precision

from . import filesystem, graphs, resume
from .bundle import write_configs, write_manifest
from .checkpoint import Checkpoint
from .fidelity import TOLERANCE, measure, run_references
from .resume import FinishedGraph
from .sources import open_source
from .specs import GraphSpec, graph_specs
from .staging import Staging, check_target, resolve, staging

TOOLS = ("diffusers", "onnx", "onnxruntime", "onnxscript", "sdrt", "torch", "transformers")
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
    progress: Progress = lambda stage: None,
) -> Path:
    """Export `source` to a bundle at `target` and return where it is.

    source: `demo`, `random:sd15`, or a Stable Diffusion 1.x folder in diffusers layout.
    target: a folder that is not there yet, or a bundle if `force`; by default engines/<name>.
    half_weights: FP32 graphs whose weights are stored in FP16. verify: measure each graph against PyTorch.
    progress: called with a line as each stage begins.

    Raises InputError for a wrong request before any work; ExportError if something fails, and then the
    target is as it was before. What a killed export had finished is used by the next one.
    """
    settings = Settings(precision=precision, opset=opset, half_weights=half_weights, verify=verify)
    if target is not None:
        check_target(resolve(target), force=force)
    progress(f"reading {source}")
    checkpoint = open_source(source)
    name = checkpoint.name + ("-fp16" if precision == "fp16" else "")
    target = resolve(target or Path("engines") / name)
    with staging(target, force=force) as place:
        try:
            _fill(place, checkpoint, settings, progress)
            progress(f"moving into {target}")
            place.commit()
        except OSError as error:
            place.discard()
            raise ExportError(_describe(error, target)) from error
        except Exception:
            place.discard()
            raise
    return target


def _fill(place: Staging, checkpoint: Checkpoint, settings: Settings, progress: Progress) -> None:
    tools = {tool: metadata.version(tool) for tool in TOOLS}
    specs = graph_specs(checkpoint.configs)
    keys = {
        spec.name: resume.key_of(
            graph=spec.name, checkpoint=checkpoint.fingerprint, tools=tools, settings=asdict(settings)
        )
        for spec in specs
    }
    finished = resume.read_finished(place, keys)
    _check_space(place, checkpoint, settings)
    for spec in specs:
        if spec.name in finished:
            progress(f"{spec.name}: taken over from an export that was interrupted")
            continue
        finished[spec.name] = _make_graph(place, checkpoint, spec, keys[spec.name], settings, progress)
        resume.write_finished(place, finished)
    progress("writing configs, tokenizer and manifest")
    write_configs(checkpoint, place.bundle)
    write_manifest(
        checkpoint,
        place.bundle,
        name=place.target.name,
        precision=settings.precision,
        opset=settings.opset,
        tools=tools,
        graphs={spec.name: finished[spec.name].entry for spec in specs},
        known={path: entry for graph in finished.values() for path, entry in graph.files.items()},
    )


def _make_graph(
    place: Staging, checkpoint: Checkpoint, spec: GraphSpec, key: str, settings: Settings, progress: Progress
) -> FinishedGraph:
    progress(f"{spec.name}: loading")
    model = checkpoint.load(spec.component)
    trials = run_references(spec, model) if settings.verify else ()
    if settings.precision == "fp16":
        model = model.half()
    progress(f"{spec.name}: exporting")
    folder = place.bundle / spec.name
    folder.mkdir(exist_ok=True)
    inputs, outputs = graphs.write_graph(
        spec, model, folder, opset=settings.opset, half_weights=settings.half_weights
    )
    del model  # onnxruntime is about to need as much memory again
    gc.collect()
    progress(
        f"{spec.name}: comparing with PyTorch" if settings.verify else f"{spec.name}: written, not compared"
    )
    entry = GraphEntry(
        path=f"{spec.name}/{graphs.FILE_NAME}",
        inputs=inputs,
        outputs=outputs,
        tolerance=TOLERANCE[settings.precision] if settings.verify else None,
        fidelity=measure(spec, folder / graphs.FILE_NAME, trials, settings.precision)
        if settings.verify
        else (),
    )
    paths = [folder / graphs.FILE_NAME, folder / graphs.DATA_NAME]
    for path in paths:
        filesystem.sync(path)
    filesystem.sync(folder)
    files = {f"{spec.name}/{path.name}": resume.describe(path) for path in paths}
    return FinishedGraph(key=key, entry=entry, files=files)


def _check_space(place: Staging, checkpoint: Checkpoint, settings: Settings) -> None:
    per_parameter = 2 if settings.half_weights or settings.precision == "fp16" else 4
    needed = sum(checkpoint.parameters.values()) * per_parameter + 32_000_000
    needed -= filesystem.tree_size(place.bundle)
    free = filesystem.free_bytes(place.root)
    if free < needed:
        raise ExportError(
            f"{place.target.parent} has {free / 1e9:.1f} GB free, "
            f"the bundle needs about {needed / 1e9:.1f} GB; make room, or give another place with -o"
        )


def _describe(error: OSError, target: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {target} became full; make room, or give another place with -o"
    return f"cannot write {target}: {error.strerror or error}"
