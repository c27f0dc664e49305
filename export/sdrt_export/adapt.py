"""Somebody else's ONNX graph, changed to take and give what the runtime expects of a bundle.

What differs in optimum's graphs, by its age: token ids are int32; there is one timestep for all rows, a
number or [1], int64 or in the network's precision; axes have other names; and with inpainting all channels
are one input.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from onnxscript import ir

from sdrt.errors import ExportError
from sdrt.manifest import Precision

from .specs import Axes, GraphSpec

FLOATS: dict[ir.DataType, Precision] = {ir.DataType.FLOAT: "fp32", ir.DataType.FLOAT16: "fp16"}
# What may stand between the timestep and the Expand that gives each row its own.
_ON_THE_WAY = ("Cast", "Identity", "Reshape", "Unsqueeze")
_TIMESTEP, _IDS, _SAMPLE, _PICTURE = "timestep", "input_ids", "sample", "image_latents"


def precision_of(unet: ir.Model, called: str) -> Precision:
    """What a U-Net computes in, by its latents. Raises ExportError if sdrt does not support it."""
    inputs = _inputs(unet.graph)
    precision = FLOATS.get(inputs[_SAMPLE].dtype) if _SAMPLE in inputs else None
    if precision is None:
        raise ExportError(f"{called} takes no float32 or float16 {_SAMPLE}; export it again in one of them")
    return precision


def adapt(model: ir.Model, spec: GraphSpec, *, needed: Collection[str], called: str) -> None:
    """Give a graph the inputs, outputs and axes of `spec`, but for outputs that it does not have.

    needed: the outputs that must be there. Raises ExportError if something is missing or cannot be changed.
    """
    graph = model.graph
    if _PICTURE in spec.inputs and _PICTURE not in _inputs(graph):
        _split_channels(graph, spec)
    if _IDS in spec.inputs and _IDS in _inputs(graph):
        _take_int64(graph)
    if _TIMESTEP in spec.inputs and _TIMESTEP in _inputs(graph):
        _take_timestep_per_row(graph, called)
    _choose(graph, spec, needed, called)
    ir.passes.common.RemoveUnusedNodesPass()(model)
    for value in (*graph.inputs, *graph.outputs):
        axes = spec.inputs[value.name] if value in graph.inputs else spec.outputs[value.name]
        _check_axes(value, axes, called)
        value.shape = ir.Shape(axes)


def _inputs(graph: ir.Graph) -> Mapping[str, ir.Value]:
    return {value.name: value for value in graph.inputs if value.name not in graph.initializers}


def _replace_input(graph: ir.Graph, old: ir.Value, *new: ir.Value) -> None:
    at = graph.inputs.index(old)
    graph.inputs[at : at + 1] = new


def _input(name: str, dtype: ir.DataType) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype))


def _cast(value: ir.Value, dtype: ir.DataType) -> tuple[ir.Value, list[ir.Node]]:
    if value.dtype == dtype:
        return value, []
    node = ir.node("Cast", [value], attributes={"to": dtype}, name=f"node_{value.name}_cast")
    node.outputs[0].name = f"{value.name}_cast"
    return node.outputs[0], [node]


def _take_int64(graph: ir.Graph) -> None:
    old = _inputs(graph)[_IDS]
    if old.dtype == ir.DataType.INT64:
        return
    new = _input(_IDS, ir.DataType.INT64)
    old.name = f"{_IDS}_before"
    value, nodes = _cast(new, old.dtype)
    ir.convenience.replace_all_uses_with(old, value)
    _replace_input(graph, old, new)
    graph.insert_before(graph[0], nodes)


def _split_channels(graph: ir.Graph, spec: GraphSpec) -> None:
    """Take the latents and the channels that follow them as two inputs."""
    old = _inputs(graph)[_SAMPLE]
    latents, picture = _input(_SAMPLE, old.dtype), _input(_PICTURE, old.dtype)
    old.name = f"{_SAMPLE}_before"
    join = ir.node("Concat", [latents, picture], attributes={"axis": 1}, name="node_all_channels")
    join.outputs[0].name = "all_channels"
    join.outputs[0].type = ir.TensorType(old.dtype)
    ir.convenience.replace_all_uses_with(old, join.outputs[0])
    _replace_input(graph, old, latents, picture)
    graph.insert_before(graph[0], [join])


def _take_timestep_per_row(graph: ir.Graph, called: str) -> None:
    """Take [1] or [R] float32, where the graph expanded its one timestep to all rows."""
    old = _inputs(graph)[_TIMESTEP]
    expand, dtype = _expand_of(old)
    if expand is None:
        raise ExportError(
            f"{called} takes the timestep in a way that sdrt does not know; "
            "export the checkpoint itself with: sdrt export"
        )
    old.name = f"{_TIMESTEP}_before"
    new = _input(_TIMESTEP, ir.DataType.FLOAT)
    first = ir.Value(name="first_axis", const_value=ir.tensor(np.array([0], np.int64), name="first_axis"))
    graph.register_initializer(first)
    # Shape and Gather rather than Shape with a start: that came with opset 15, and optimum has used 11
    shape = ir.node("Shape", [_inputs(graph)[_SAMPLE]], name="node_sample_shape")
    rows = ir.node("Gather", [shape.outputs[0], first], attributes={"axis": 0}, name="node_rows")
    per_row = ir.node("Expand", [new, rows.outputs[0]], name="node_timestep_per_row")
    for node, name in ((shape, "sample_shape"), (rows, "rows"), (per_row, "timestep_per_row")):
        node.outputs[0].name = name
    per_row.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    value, casts = _cast(per_row.outputs[0], dtype)
    ir.convenience.replace_all_uses_with(expand.outputs[0], value)
    _replace_input(graph, old, new)
    graph.insert_before(graph[0], [shape, rows, per_row, *casts])


def _expand_of(timestep: ir.Value) -> tuple[ir.Node | None, ir.DataType]:
    """The Expand that a graph's only use of the timestep leads to, and the type it has there."""
    value, dtype = timestep, timestep.dtype
    while True:
        users = {node for node, _ in value.uses()}
        node = users.pop() if len(users) == 1 else None
        if node is None or (node.op_type not in _ON_THE_WAY and node.op_type != "Expand"):
            return None, dtype
        if node.op_type == "Expand":
            return node, dtype
        if node.op_type == "Cast":
            dtype = ir.DataType(node.attributes["to"].as_int())
        value = node.outputs[0]


def _choose(graph: ir.Graph, spec: GraphSpec, needed: Collection[str], called: str) -> None:
    """Keep the inputs and outputs of `spec`, in its order."""
    inputs, outputs = _inputs(graph), {value.name: value for value in graph.outputs}
    for kind, there, wanted in (("input", inputs, spec.inputs), ("output", outputs, needed)):
        absent = [name for name in wanted if name not in there]
        if absent:
            raise ExportError(
                f"{called} has no {kind} {', '.join(absent)}, but {', '.join(there)}; "
                "export it again with a newer optimum"
            )
    extra = sorted(inputs.keys() - spec.inputs.keys())
    if extra:
        raise ExportError(f"{called} takes {', '.join(extra)}, which sdrt does not support")
    graph.inputs[:] = [inputs[name] for name in spec.inputs]
    graph.outputs[:] = [outputs[name] for name in spec.outputs if name in outputs]


def _check_axes(value: ir.Value, axes: Axes, called: str) -> None:
    """Whether what the graph says of its axes leaves those free that must be, and fits the configs."""
    if value.name == _TIMESTEP or value.shape is None:
        return
    there = list(value.shape)
    wrong = len(there) != len(axes) or any(
        isinstance(axis, int) and axis != wanted for axis, wanted in zip(there, axes, strict=False)
    )
    if wrong:
        raise ExportError(
            f"{value.name} of {called} is {_shown(there)}, expected {_shown(axes)}; "
            "export it again with dynamic axes"
        )


def _shown(axes: Collection[object]) -> str:
    return f"[{', '.join(map(str, axes))}]"
