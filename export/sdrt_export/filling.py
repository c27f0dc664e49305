"""The files of a bundle, made one graph at a time."""

from __future__ import annotations

from dataclasses import asdict, replace
from importlib import metadata
from operator import attrgetter
from pathlib import Path

from sdrt.errors import ExportError, InputError
from sdrt.manifest import Fidelity, GraphEntry
from sdrt.onnx_signature import read_signature

from . import filesystem, graphs, resume
from .bundle import write_configs, write_manifest
from .checkpoint import Checkpoint
from .exporter import Progress, Settings
from .fidelity import TOLERANCE, Trial, check_rows, measure, run_references
from .float32 import write_float32
from .fused_attention import write_fused
from .half_range import Kept, keep_in_range, trial_inputs
from .latent_rgb import fit_latent_rgb
from .optimum import OnnxModel, write_adapted
from .parameters import HalfWeights
from .resume import FinishedGraph
from .specs import GraphSpec, graph_specs
from .staging import Staging

TOOLS = ("diffusers", "onnx", "onnxruntime", "onnxscript", "sdrt", "torch", "transformers")


def fill(place: Staging, model: Checkpoint | OnnxModel, settings: Settings, progress: Progress) -> None:
    """Write the whole bundle into the staging folder, its manifest last.

    Raises ExportError if the disk has too little room or a graph does not match PyTorch.
    """
    if isinstance(model, OnnxModel):
        _check_settings(model, settings)
    tools = {tool: metadata.version(tool) for tool in TOOLS}
    specs = [*graph_specs(model.configs, deep_cache=settings.deep_cache)]
    if settings.precision == "fp16" and not isinstance(model, OnnxModel):
        decoder = next(spec for spec in specs if spec.name == "vae_decoder")
        specs.append(replace(decoder, name="vae_decoder_fp32"))
    keys = {
        spec.name: resume.key_of(
            graph=spec.name, checkpoint=model.fingerprint, tools=tools, settings=asdict(settings)
        )
        for spec in specs
    }
    finished = resume.read_finished(place, keys)
    _check_space(place, model, settings)
    for spec in specs:
        if spec.name in finished:
            progress(f"{spec.name}: taken over from an export that was interrupted")
            continue
        finished[spec.name] = _make_graph(place, model, spec, keys[spec.name], settings, progress)
        resume.write_finished(place, finished)
    entries = {spec.name: finished[spec.name].entry for spec in specs}
    progress("fitting the map from latents to RGB")
    latent_rgb = fit_latent_rgb(place.bundle, entries, model.configs.vae_settings, settings.precision)
    if latent_rgb is None:
        progress("the VAE gave NaN or infinity for a picture: there will be no map from latents to RGB")
    progress("writing configs, tokenizer and manifest")
    write_configs(model, place.bundle)
    write_manifest(
        model,
        place.bundle,
        name=place.target.name,
        precision=settings.precision,
        opset=model.opset if isinstance(model, OnnxModel) else settings.opset,
        tools=tools,
        latent_rgb=latent_rgb,
        graphs=entries,
        known={path: entry for graph in finished.values() for path, entry in graph.files.items()},
    )


def _make_graph(
    place: Staging,
    model: Checkpoint | OnnxModel,
    spec: GraphSpec,
    key: str,
    settings: Settings,
    progress: Progress,
) -> FinishedGraph:
    own = [graphs.FILE_NAME, graphs.DATA_NAME]
    folder = place.bundle / spec.name
    if spec.name == "vae_decoder_fp32":
        own, folder = [], place.bundle / "vae_decoder"
    folder.mkdir(exist_ok=True)
    if isinstance(model, OnnxModel):
        entry = _adopt(folder, model, spec, settings, progress)
    elif spec.name == "vae_decoder_fp32":
        entry = _in_float32(folder, model, spec, settings, progress)
    else:
        entry = _export(folder, model, spec, settings, progress)
    # FILE_NAME is there beside what the bundle runs, if only for optimum
    names = {*entry.paths, *(f"{folder.name}/{name}" for name in own)}
    paths = [place.bundle / name for name in sorted(names)]
    for path in paths:
        filesystem.sync(path)
    filesystem.sync(folder)
    files = {f"{folder.name}/{path.name}": resume.describe(path) for path in paths}
    return FinishedGraph(key=key, entry=entry, files=files)


def _export(
    folder: Path, checkpoint: Checkpoint, spec: GraphSpec, settings: Settings, progress: Progress
) -> GraphEntry:
    model, weights = checkpoint.build(spec.component), checkpoint.weights(spec.component)
    trials: tuple[Trial, ...] = ()
    if settings.verify:
        progress(f"{spec.name}: running PyTorch")
        trials = run_references(spec, model, weights)
    precision = settings.precision
    half = precision == "fp16"
    ranging = trial_inputs(spec, model, weights, checkpoint.configs.vae_settings) if half else None
    progress(f"{spec.name}: exporting")
    inputs, outputs = graphs.write_graph(
        spec,
        model,
        weights,
        folder,
        precision=precision,
        opset=settings.opset,
        half_weights=settings.half_weights,
    )
    if ranging is not None:
        progress(f"{spec.name}: looking for what leaves the range of FP16")
        progress(f"{spec.name}: {_described(keep_in_range(folder / graphs.FILE_NAME, ranging))}")
    progress(
        f"{spec.name}: comparing with PyTorch" if settings.verify else f"{spec.name}: written, not compared"
    )
    path = graphs.split_plain(folder) if spec.beside_plain else folder / graphs.FILE_NAME
    names = [path.name]
    if write_fused(path, folder / graphs.FUSED_NAME):
        names.append(graphs.FUSED_NAME)
    measured = [measure(spec, folder / name, trials, precision) for name in names if settings.verify]
    return GraphEntry(
        path=f"{spec.name}/{path.name}",
        onnxruntime=f"{spec.name}/{graphs.FUSED_NAME}" if graphs.FUSED_NAME in names else None,
        inputs=inputs,
        outputs=outputs,
        tolerance=TOLERANCE[precision] if settings.verify else None,
        fidelity=tuple(max(worse, key=attrgetter("relative_l2")) for worse in zip(*measured, strict=True)),
    )


def _described(kept: Kept) -> str:
    if not kept.nodes:
        return f"all of it computes in FP16; the largest number in it was {kept.largest:.0f}"
    return f"{kept.nodes} of {kept.all_nodes} nodes compute in FP32; numbers go up to {kept.largest:.0f}"


def _in_float32(
    folder: Path, checkpoint: Checkpoint, spec: GraphSpec, settings: Settings, progress: Progress
) -> GraphEntry:
    """The FP16 graph that is there, computing in FP32 with the weights that it has."""
    progress(f"{spec.name}: writing, for pictures that leave the range of FP16")
    path = folder / graphs.FLOAT32_NAME
    write_float32(folder / graphs.FILE_NAME, path)
    inputs, outputs = read_signature(path)
    fidelity: tuple[Fidelity, ...] = ()
    if settings.verify:
        model, weights = checkpoint.build(spec.component), checkpoint.weights(spec.component)
        fidelity = measure(spec, path, run_references(spec, model, HalfWeights(weights)), "fp32")
    return GraphEntry(
        path=f"{folder.name}/{path.name}",
        inputs=inputs,
        outputs=outputs,
        tolerance=TOLERANCE["fp32"] if settings.verify else None,
        fidelity=fidelity,
    )


def _adopt(
    folder: Path, model: OnnxModel, spec: GraphSpec, settings: Settings, progress: Progress
) -> GraphEntry:
    progress(f"{spec.name}: copying; not compared, for there is no PyTorch module to compare it with")
    inputs, outputs = write_adapted(model, spec, folder)
    if settings.verify:
        progress(f"{spec.name}: running it")
        check_rows(spec, folder / graphs.FILE_NAME, inputs, model.precision)
    return GraphEntry(
        path=f"{spec.name}/{graphs.FILE_NAME}", inputs=inputs, outputs=outputs, tolerance=None, fidelity=()
    )


def _check_settings(model: OnnxModel, settings: Settings) -> None:
    """Raise InputError if settings ask for other graphs than there are."""
    if settings.precision != model.precision:
        raise InputError(
            f"the graphs of {model.source} compute in {model.precision}; give --precision {model.precision}, "
            "or export the checkpoint they come from"
        )
    if settings.half_weights:
        raise InputError(f"--half-weights is for a checkpoint; {model.source} holds graphs, so leave it out")
    if settings.deep_cache:
        raise InputError(
            f"--deep-cache cuts a checkpoint's U-Net; {model.source} holds graphs, "
            "so export the checkpoint they come from"
        )


def _check_space(place: Staging, model: Checkpoint | OnnxModel, settings: Settings) -> None:
    per_parameter = 2 if settings.half_weights or settings.precision == "fp16" else 4
    if isinstance(model, OnnxModel):
        needed = model.size + 32_000_000
    else:
        # a shallow U-Net has 0.4 to 1 % of the parameters of a full-size one
        shallow = model.parameters["unet"] // 50 if settings.deep_cache else 0
        needed = (sum(model.parameters.values()) + shallow) * per_parameter + 32_000_000
    needed -= filesystem.tree_size(place.bundle)
    free = filesystem.free_bytes(place.root)
    if free < needed:
        raise ExportError(
            f"{place.target.parent} has {free / 1e9:.1f} GB free, "
            f"the bundle needs about {needed / 1e9:.1f} GB; make room, or give another place with -o"
        )
