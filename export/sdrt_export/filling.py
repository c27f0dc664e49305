"""The files of a bundle, made one graph at a time."""

from __future__ import annotations

from dataclasses import asdict
from importlib import metadata

from sdrt.errors import ExportError
from sdrt.manifest import GraphEntry

from . import filesystem, graphs, resume
from .bundle import write_configs, write_manifest
from .checkpoint import Checkpoint
from .exporter import Progress, Settings
from .fidelity import TOLERANCE, Trial, measure, run_references
from .resume import FinishedGraph
from .specs import GraphSpec, graph_specs
from .staging import Staging

TOOLS = ("diffusers", "onnx", "onnxruntime", "onnxscript", "sdrt", "torch", "transformers")


def fill(place: Staging, checkpoint: Checkpoint, settings: Settings, progress: Progress) -> None:
    """Write the whole bundle into the staging folder, its manifest last.

    Raises ExportError if the disk has too little room or a graph does not match PyTorch.
    """
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
    model, weights = checkpoint.build(spec.component), checkpoint.weights(spec.component)
    trials: tuple[Trial, ...] = ()
    if settings.verify:
        progress(f"{spec.name}: running PyTorch")
        trials = run_references(spec, model, weights)
    precision = spec.precision(settings.precision)
    progress(f"{spec.name}: exporting")
    folder = place.bundle / spec.name
    folder.mkdir(exist_ok=True)
    inputs, outputs = graphs.write_graph(
        spec,
        model,
        weights,
        folder,
        precision=precision,
        opset=settings.opset,
        half_weights=settings.half_weights,
    )
    progress(
        f"{spec.name}: comparing with PyTorch" if settings.verify else f"{spec.name}: written, not compared"
    )
    entry = GraphEntry(
        path=f"{spec.name}/{graphs.FILE_NAME}",
        inputs=inputs,
        outputs=outputs,
        tolerance=TOLERANCE[precision] if settings.verify else None,
        fidelity=measure(spec, folder / graphs.FILE_NAME, trials, precision) if settings.verify else (),
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
