"""A folder of graphs that optimum exported: `unet/model.onnx` and the rest, with the configs beside them.

There is no PyTorch module to measure these graphs against. They are run instead: a row must come out the same
alone and beside another one, for a picture must not depend on its batch.
https://huggingface.co/docs/optimum-onnx/onnxruntime/usage_guides/export_a_model
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from onnxscript import ir

from sdrt import manifest
from sdrt.errors import BundleError, ExportError, InputError
from sdrt.manifest import GraphName, Precision
from sdrt.onnx_external_data import external_files
from sdrt.tensors import TensorSpec

from .adapt import adapt, precision_of
from .checkpoint import Model
from .config_folder import read_config_folder
from .configs import TEXT_ENCODERS, Configs
from .graphs import FILE_NAME, save_graph, strip
from .specs import Component, GraphSpec, graph_specs
from .weights import fingerprint, refuse_pointer


@dataclass(frozen=True, kw_only=True)
class OnnxModel(Model):
    """A model that is graphs already.

    graphs: where they are. size: bytes of all of them with their weights. precision: what the U-Net computes
    in. opset: of the U-Net.
    """

    graphs: Mapping[GraphName, Path]
    size: int
    precision: Precision
    opset: int


def is_onnx_folder(folder: Path) -> bool:
    """Whether a folder holds graphs rather than weights."""
    return (folder / "unet" / FILE_NAME).exists()


def open_onnx_folder(source: str, options: Sequence[str] = ()) -> OnnxModel:
    """Check everything that can be checked without reading the graphs' weights.

    options: those of the command that were given and are for checkpoints.
    Raises InputError if there are any, or if the folder is a bundle already; ExportError, naming the file, if
    something is missing, damaged, or of another family, and if a graph reads weights from elsewhere than
    beside itself.
    """
    folder = Path(source).expanduser()
    if (folder / manifest.FILE_NAME).exists():
        raise InputError(f"{source} is a bundle already; use it with: sdrt generate -m {source}")
    if options:
        raise InputError(
            f"{source} holds graphs, to which {', '.join(options)} cannot be applied; leave it out"
        )
    components: list[Component] = [name for name in TEXT_ENCODERS if (folder / name / FILE_NAME).exists()]
    if not components:
        raise ExportError(f"{folder} has no text_encoder/{FILE_NAME}; export it again with optimum")
    settings = read_config_folder(folder, components=[*components, "unet"], vae="vae_decoder")
    configs = _with_layers_of(folder, settings.configs)
    paths = {spec.name: folder / spec.name / FILE_NAME for spec in graph_specs(configs)}
    data = [file for path in paths.values() for file in _data_files(path)]
    unet = _load(paths["unet"])
    return OnnxModel(
        source=source,
        fingerprint=fingerprint(folder, {*settings.files, *paths.values(), *data}),
        configs=configs,
        tokenizers=settings.tokenizers,
        graphs=paths,
        size=sum(path.stat().st_size for path in {*paths.values(), *data}),
        precision=precision_of(unet, str(paths["unet"])),
        opset=unet.opset_imports.get("", 0),
    )


def write_adapted(
    model: OnnxModel, spec: GraphSpec, folder: Path
) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Write one of the graphs to `folder` as the runtime wants it, with its weights beside it.

    Returns the specs of its inputs and outputs. Raises ExportError if it cannot be made so.
    """
    path = model.graphs[spec.name]
    graph = _load(path)
    adapt(graph, spec, needed=_needed(model.configs, spec), called=str(path))
    strip(graph, spec)
    return save_graph(graph, spec, folder)


def _with_layers_of(folder: Path, configs: Configs) -> Configs:
    """Leave those layers to clip skip that the text encoders give: the last one alone, but for XL."""
    texts = []
    for text in configs.text:
        there = {value.name for value in _load(folder / text.graph / FILE_NAME).graph.outputs}
        layers = itertools.takewhile(there.__contains__, text.clip_skip_outputs)
        texts.append(msgspec.structs.replace(text, clip_skip_outputs=tuple(layers)))
    return replace(configs, text=tuple(texts))


def _needed(configs: Configs, spec: GraphSpec) -> set[str]:
    """The outputs that the runtime reads."""
    for text in configs.text:
        if text.graph == spec.name:
            return {text.hidden_states, *([text.pooled] if text.pooled else [])}
    return set(spec.outputs)


def _data_files(graph: Path) -> list[Path]:
    """The files with a graph's weights, all of them beside it."""
    refuse_pointer(graph)
    try:
        names = external_files(graph)
    except BundleError:
        raise ExportError(f"{graph} is not an ONNX graph, or a damaged one; export it again") from None
    for name in sorted(names):
        if Path(name).name != name or os.sep in name:
            raise ExportError(f"{graph} reads its weights from {name!r}, which is not beside it; refused")
        refuse_pointer(graph.parent / name)
    return [graph.parent / name for name in names]


def _load(path: Path) -> ir.Model:
    _data_files(path)
    try:
        return ir.load(path)
    except Exception as error:  # protobuf's, and those of onnx_ir's reader
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ExportError(
            f"{path} is not an ONNX graph, or a damaged one: {line}; export it again"
        ) from error
