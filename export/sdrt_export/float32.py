"""Nodes of an FP16 graph that compute in FP32 all the same: all of them, or those that leave FP16's range.

The weights stay as they are, in FP16, with a Cast behind each; so a second graph takes hardly any space.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

WIDE = ".float32"  # behind the name of a value: the same in FP32


def half_values(model: ModelProto) -> set[str]:
    """Names of all values of a graph that are FP16, weights included."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    typed = [*graph.input, *graph.output, *graph.value_info]
    types = {one.name: one.type.tensor_type.elem_type for one in typed}
    types |= {one.name: one.data_type for one in graph.initializer}
    return {name for name, kind in types.items() if kind == TensorProto.FLOAT16}


def widen(model: ModelProto, nodes: Collection[str] | None = None) -> None:
    """Let nodes compute in FP32, inputs and outputs of the graph stay what they are.

    nodes: by their first output; None is all. A value that one of these makes is FP32 on the way to others of
    them, and rounded for the rest. Some may be so already.
    """
    half, wide = half_values(model), set[str]()
    made: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.output[0] == node.input[0] + WIDE:
            if node.input[0] not in wide:
                made.append(node)
                wide.add(node.input[0])
            continue
        if node.op_type == "Cast" and node.input[0] == node.output[0] + WIDE:
            made.append(node)
            wide.add(node.output[0])
            continue
        if not _can_be_wide(node, half) or (nodes is not None and node.output[0] not in nodes):
            made.append(node)
            continue
        for i, name in enumerate(node.input):
            if name in half:
                if name not in wide:
                    made.append(_cast(name, name + WIDE, TensorProto.FLOAT))
                    wide.add(name)
                node.input[i] = name + WIDE
        if node.op_type == "Cast":
            _set_target(node, TensorProto.FLOAT)
        rounded = [name for name in node.output if name in half]
        for i, name in enumerate(node.output):
            if name in half:
                node.output[i] = name + WIDE
                wide.add(name)
        made += [node, *(_cast(name + WIDE, name, TensorProto.FLOAT16) for name in rounded)]
    _replace_nodes(model, made)


def write_float32(half: Path, target: Path) -> None:
    """Write the FP16 graph `half`, computing in FP32 from end to end, to `target` beside it."""
    model = onnx.load(half, load_external_data=False)
    widen(model)
    edges = {one.name: one.type.tensor_type for one in (*model.graph.input, *model.graph.output)}
    for tensor in edges.values():
        if tensor.elem_type == TensorProto.FLOAT16:
            tensor.elem_type = TensorProto.FLOAT
    for node in model.graph.node:
        if node.op_type == "Cast" and node.output[0] in edges:
            _set_target(node, TensorProto.FLOAT)
    target.write_bytes(model.SerializeToString())


def _can_be_wide(node: NodeProto, half: set[str]) -> bool:
    """Whether a node computes on FP16, and is no constant, whose type is its own."""
    return any(name in half for name in node.input) or (node.op_type == "Cast" and node.output[0] in half)


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"node_{target}.cast", to=kind)


def _set_target(cast: NodeProto, kind: int) -> None:
    next(one for one in cast.attribute if one.name == "to").i = kind


def _replace_nodes(model: ModelProto, nodes: list[NodeProto]) -> None:
    """Take `nodes` for those of the graph, without casts that nobody reads."""
    read = {name for node in nodes for name in node.input} | {one.name for one in model.graph.output}
    kept = [node for node in nodes if node.op_type != "Cast" or node.output[0] in read]
    del model.graph.node[:]
    model.graph.node.extend(kept)
