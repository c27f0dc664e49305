"""Folders as optimum leaves them, made of a bundle's own graphs.

`recent` is what optimum-onnx 0.1.0 was seen to write: opset 18, weights inside the graph, one float timestep
without an axis, axes called otherwise. `old` is what optimum 1.x wrote: int32 token ids, one int64 timestep
with an axis, and weights in model.onnx_data.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import onnx
from onnx import TensorProto, helper

Layout = Literal["recent", "old"]
AXES = {"batch": "batch_size", "rows": "steps", "height": "latent_height", "width": "latent_width"}


def write(bundle: Path, folder: Path, layout: Layout) -> Path:
    """Write the graphs and configs of a bundle to `folder` in a layout of optimum's."""
    shutil.copytree(bundle, folder, ignore=shutil.ignore_patterns("sdrt.json", "*.onnx*"))
    for tokenizer in folder.glob("tokenizer*/tokenizer.json"):
        tokenizer.unlink()  # vocab.json and merges.txt alone
    for path in bundle.glob("*/model.onnx"):
        model = onnx.load(path)
        _rename_axes(model.graph)
        if path.parent.name == "unet":
            kind, shape = (TensorProto.FLOAT, []) if layout == "recent" else (TensorProto.INT64, ["steps"])
            _take_one_timestep(model.graph, kind, shape)
            _join_channels(model.graph)
        if path.parent.name.startswith("text_encoder"):
            _drop_outputs(model.graph, lambda name: not name.startswith("clip_skip"))
            if layout == "old":
                _take_int32(model.graph)
        target = folder / path.parent.name / "model.onnx"
        if layout == "old":
            onnx.save(model, target, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
        else:
            onnx.save(model, target)
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "ORT" * (layout == "old") + index["_class_name"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def change(path: Path, change: Callable[[onnx.GraphProto], None]) -> None:
    """Change the graph in a file."""
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)


def _rename_axes(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = AXES.get(axis.dim_param, axis.dim_param + " * 8")


def _take_one_timestep(graph: onnx.GraphProto, kind: int, shape: list[str]) -> None:
    """timestep -> Cast -> Unsqueeze -> Expand, as torch's exporter writes `timestep.expand(rows)`."""
    index = next(i for i, value in enumerate(graph.input) if value.name == "timestep")
    graph.input[index].CopyFrom(helper.make_tensor_value_info("timestep", kind, shape))
    for node in graph.node:
        node.input[:] = ["timestep_float" if name == "timestep" else name for name in node.input]
    cast = helper.make_node("Cast", ["timestep"], ["timestep_cast"], to=TensorProto.FLOAT)
    axes = helper.make_tensor("unsqueeze_axes", TensorProto.INT64, [1], [0])
    last = (
        helper.make_node("Identity", ["timestep_cast"], ["timestep_float"])
        if shape
        else helper.make_node("Unsqueeze", ["timestep_cast", "unsqueeze_axes"], ["timestep_float"])
    )
    graph.initializer.append(axes)
    graph.node.insert(0, last)
    graph.node.insert(0, cast)


def _join_channels(graph: onnx.GraphProto) -> None:
    """Take the latents and the picture that an inpainting model is shown as one input."""
    inputs = {value.name: value for value in graph.input}
    if "image_latents" not in inputs:
        return
    axes = {name: inputs[name].type.tensor_type.shape.dim[1] for name in ("sample", "image_latents")}
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [axis.dim_value for axis in axes.values()])
    for node in graph.node:
        node.input[:] = [f"{name}_part" if name in axes else name for name in node.input]
    parts = [f"{name}_part" for name in axes]
    graph.node.insert(0, helper.make_node("Split", ["sample", "sizes"], parts, axis=1))
    graph.initializer.append(sizes)
    axes["sample"].dim_value += axes["image_latents"].dim_value
    graph.input.remove(inputs["image_latents"])


def _take_int32(graph: onnx.GraphProto) -> None:
    shape = [axis.dim_param or axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("input_ids", TensorProto.INT32, shape))
    for node in graph.node:
        node.input[:] = ["ids" if name == "input_ids" else name for name in node.input]
    graph.node.insert(0, helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.INT64))


def _drop_outputs(graph: onnx.GraphProto, kept: Callable[[str], bool]) -> None:
    outputs = [value for value in graph.output if kept(value.name)]
    del graph.output[:]
    graph.output.extend(outputs)
