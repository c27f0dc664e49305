"""The same graph with onnxruntime's own attention operator, in a file beside the standard one.

onnxruntime's CPU kernel for ONNX's Attention writes the products of all queries and keys to memory: 1.07 GB,
twice, for the 4,096 places of a guided 512x512 picture. Its MultiHeadAttention works in tiles that stay in
the cache, on [B, L, heads * D] as linear layers give it, so that the transposes around it go too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeGuard

from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript import ir

_DOMAIN = "com.microsoft"  # https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
_HEADS_FIRST = (0, 2, 1, 3)


def write_fused(standard: Path, fused: Path) -> bool:
    """Write the graph `standard` with fused attention to `fused`, in the same folder: they share weights.

    Nothing is written, and False returned, where it has no attention that can be fused.
    """
    model = ir.load(standard)
    count = sum(_fuse(model.graph, node) for node in list(model.graph) if node.op_type == "Attention")
    if count:
        model.opset_imports[_DOMAIN] = 1
        RemoveUnusedNodesPass()(model)
        ir.save(model, fused)
    return count > 0


def _fuse(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace one Attention without a mask, if heads are split just before it and merged just after it."""
    if any(node.attributes[name].value for name in ("is_causal", "softcap") if name in node.attributes):
        return False
    sources = [_before_split(value) for value in node.inputs]
    merged = _after_merge(node.outputs[0])
    if len(sources) != 3 or merged is None or any(source is None for source in sources):
        return False
    (heads,) = {heads for _, heads in sources}  # type: ignore[misc]
    attributes: dict[str, int | float] = {"num_heads": heads}
    if "scale" in node.attributes:
        attributes["scale"] = node.attributes["scale"].as_float()
    fused = ir.node(
        "MultiHeadAttention",
        [value for value, _ in sources],  # type: ignore[misc]
        domain=_DOMAIN,
        attributes=attributes,
        name=f"{node.name}.fused",
    )
    graph.insert_before(node, fused)
    fused.outputs[0].name = f"{merged.name}.fused"
    ir.convenience.replace_all_uses_with(merged, fused.outputs[0])
    return True


def _before_split(value: ir.Value | None) -> tuple[ir.Value, int] | None:
    """What [B, heads, L, D] was split from, [B, L, heads * D], and the number of heads."""
    transpose = value.producer() if value is not None else None
    if not _is_transpose(transpose):
        return None
    reshape = transpose.inputs[0].producer()
    shape = reshape.inputs[1].producer() if reshape is not None and reshape.op_type == "Reshape" else None
    if shape is None or shape.op_type != "Concat" or len(shape.inputs) != 4:
        return None
    heads = shape.inputs[2].const_value
    return None if heads is None else (reshape.inputs[0], int(heads.numpy().item()))


def _is_transpose(node: ir.Node | None) -> TypeGuard[ir.Node]:
    return (
        node is not None
        and node.op_type == "Transpose"
        and tuple(node.attributes["perm"].as_ints()) == _HEADS_FIRST
    )


def _after_merge(value: ir.Value) -> ir.Value | None:
    """What the answer [B, heads, L, D] is merged to, [B, L, heads * D]."""
    for operator in ("Transpose", "Reshape"):
        users = [node for node, _ in value.uses()]
        if len(users) != 1 or users[0].op_type != operator:
            return None
        if operator == "Transpose" and not _is_transpose(users[0]):
            return None
        value = users[0].outputs[0]
    return None if value.is_graph_output() else value
