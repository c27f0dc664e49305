"""Whether TensorRT's ONNX parser takes a graph, found out without TensorRT.

The parser itself is part of a library of gigabytes for machines with an NVIDIA GPU; what it refuses shows
there, long after the export. Here the documented limits are looked for in the file.

    python -m sdrt_export.tensorrt_lint engines/sd15/*/model.onnx
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from sdrt.errors import BundleError

from .tensorrt_operators import OPSETS, TYPES

_EDGES_ONLY = "UINT8"


@dataclass(frozen=True)
class Finding:
    """What TensorRT would refuse or change: a node by name, its operator, and why."""

    node: str
    operator: str
    why: str

    def __str__(self) -> str:
        return f"{self.node} ({self.operator}): {self.why}"


def lint(path: Path) -> list[Finding]:
    """Look for what TensorRT 10.15 to 11.2 do not take. Weights are not read.

    Raises BundleError if the file is no ONNX graph.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # onnx and protobuf raise classes of their own
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise BundleError(f"{path} is not an ONNX graph: {line}") from None
    return [*_of_model(model), *_of_graph(model.graph, _opset(model))]


def _opset(model: ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _of_model(model: ModelProto) -> Iterator[Finding]:
    if _opset(model) not in OPSETS:
        yield Finding("model", "opset", f"{_opset(model)} is not in {OPSETS[0]} to {OPSETS[-1]}")
    if model.functions:
        yield Finding("model", "functions", f"{model.functions[0].name} is not looked into")


@dataclass(frozen=True)
class _Values:
    """What is known of the values of a graph, by name.

    types: names of element types. ranks: numbers of axes. constants: what is known when an engine is built;
    numbers: those that lie in the file as integers.
    """

    types: Mapping[str, str]
    ranks: Mapping[str, int]
    constants: frozenset[str]
    numbers: Mapping[str, list[int]]
    edges: frozenset[str]


def _of_graph(graph: GraphProto, opset: int) -> Iterator[Finding]:
    values = _read_values(graph)
    for node in graph.node:
        for why in _of_node(node, values, opset):
            yield Finding(node.name or ", ".join(node.output), node.op_type, why)


def _read_values(graph: GraphProto) -> _Values:
    infos = [*graph.input, *graph.output, *graph.value_info]
    tensors = {one.name: one.type.tensor_type for one in infos if one.type.HasField("tensor_type")}
    types = {name: TensorProto.DataType.Name(one.elem_type) for name, one in tensors.items()}
    types |= {one.name: TensorProto.DataType.Name(one.data_type) for one in graph.initializer}
    ranks = {name: len(one.shape.dim) for name, one in tensors.items() if one.HasField("shape")}
    ranks |= {one.name: len(one.dims) for one in graph.initializer}
    constants = {one.name for one in graph.initializer}
    for node in graph.node:  # in the order in which they run
        if node.op_type == "Constant" or (node.input and set(node.input) <= constants):
            constants |= set(node.output)
    numbers = {
        one.name: onnx.numpy_helper.to_array(one).ravel().tolist()
        for one in graph.initializer
        if one.data_type == TensorProto.INT64 and one.data_location != TensorProto.EXTERNAL
    }
    edges = frozenset(one.name for one in (*graph.input, *graph.output))
    return _Values(types=types, ranks=ranks, constants=frozenset(constants), numbers=numbers, edges=edges)


def _of_node(node: NodeProto, values: _Values, opset: int) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx"):
        yield f"of domain {node.domain}, which is not ONNX's"
    elif node.op_type not in TYPES:
        yield "no operator that TensorRT is known to take"
    else:
        yield from _of_types(node, values, opset)
        yield from _RESTRICTIONS.get(node.op_type, _nothing)(node, values)


def _of_types(node: NodeProto, values: _Values, opset: int) -> Iterator[str]:
    """Types of the operator's data: of its first input and what must have the same, or of what it makes."""
    allowed = TYPES[node.op_type]
    for name in _data(node, opset):
        found = values.types.get(name)
        if found is None:
            yield f"the type of {name} cannot be told"
        elif found == "DOUBLE":
            yield f"{name} is DOUBLE, which TensorRT computes in FLOAT"
        elif found not in allowed:
            yield f"{name} is {found}; expected {', '.join(sorted(allowed))}"
    for name in {*node.input, *node.output}:
        if values.types.get(name) == _EDGES_ONLY and name not in values.edges:
            yield f"{name} is {_EDGES_ONLY}, which only inputs and outputs of a graph may be"


def _data(node: NodeProto, opset: int) -> list[str]:
    schema = onnx.defs.get_schema(node.op_type, opset)
    named = [*_with_types(schema.inputs, node.input), *_with_types(schema.outputs, node.output)]
    kinds = {schema.inputs[0].type_str} if node.input else set()
    if node.op_type in ("Cast", "CastLike", "Constant", "ConstantOfShape", "OneHot") or not node.input:
        kinds = {one.type_str for one in schema.outputs}
        if node.op_type in ("Cast", "CastLike"):
            kinds.add(schema.inputs[0].type_str)
    return [name for name, kind in named if kind in kinds]


def _with_types(formal: Any, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names of a node's values, each with its parameter's kind; the last parameter may stand for many."""
    for index, name in enumerate(names):
        if name:
            yield name, formal[min(index, len(formal) - 1)].type_str


def _attributes(node: NodeProto) -> dict[str, Any]:
    found = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    return {key: value.decode() if isinstance(value, bytes) else value for key, value in found.items()}


def _given(names: Iterable[str], first: int, last: int = sys.maxsize) -> list[str]:
    return [name for name in list(names)[first:last] if name]


def _nothing(node: NodeProto, values: _Values) -> Iterator[str]:
    return iter(())


def _constant(index: int, called: str) -> Callable[[NodeProto, _Values], Iterator[str]]:
    def check(node: NodeProto, values: _Values) -> Iterator[str]:
        for name in _given(node.input, index, index + 1):
            if name not in values.constants:
                yield f"{called} is {name}, which is computed; expected a constant"

    return check


def _first_output(node: NodeProto, values: _Values) -> Iterator[str]:
    for name in _given(node.output, 1):
        yield f"output {name} is beyond the first, which alone is supported"


def _attention(node: NodeProto, values: _Values) -> Iterator[str]:
    for name in _given(node.input, 0, 4):
        if values.ranks.get(name) != 4:
            yield f"{name} has {values.ranks.get(name, 'unknown')} axes; expected 4"
    for name in _given(node.input, 4):
        yield f"{name} is a past state or a length, which are not supported"
    yield from _first_output(node, values)
    for attribute in ("softcap", "qk_matmul_output_mode"):
        if _attributes(node).get(attribute):
            yield f"{attribute} is not supported"


def _pool(node: NodeProto, values: _Values) -> Iterator[str]:
    if values.ranks.get(node.input[0]) not in (4, 5):
        yield f"pools {values.ranks.get(node.input[0], 'unknown')} axes; expected 4 or 5"
    if set(_attributes(node).get("dilations", [])) - {1}:
        yield "dilations other than 1 are not supported"
    yield from _first_output(node, values)


def _choice(
    allowed: Mapping[str, tuple[Any, ...]],
) -> Callable[[NodeProto, _Values], Iterator[str]]:
    """Attributes that have one of the values, or their default."""

    def check(node: NodeProto, values: _Values) -> Iterator[str]:
        for name, value in _attributes(node).items():
            if name in allowed and value not in allowed[name]:
                yield f"{name} {value!r} is not supported; expected {' or '.join(map(str, allowed[name]))}"

    return check


_RESIZE = _choice(
    {
        "mode": ("nearest", "linear"),
        "antialias": (0,),
        "coordinate_transformation_mode": (
            "half_pixel",
            "pytorch_half_pixel",
            "tf_half_pixel_for_nn",
            "asymmetric",
            "align_corners",
        ),
        "nearest_mode": ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
        "keep_aspect_ratio_policy": ("stretch",),
    }
)


def _resize(node: NodeProto, values: _Values) -> Iterator[str]:
    yield from _RESIZE(node, values)
    axes = _attributes(node).get("axes")
    rank = values.ranks.get(node.input[0])
    if axes is not None and list(axes) != list(range(rank or 0)):
        yield f"axes {list(axes)} are not all {rank} in their order"


def _top_k(node: NodeProto, values: _Values) -> Iterator[str]:
    yield from _choice({"sorted": (1,)})(node, values)
    (k,) = values.numbers.get(node.input[1], [sys.maxsize])
    if k >= 3840:
        yield "K is not known, or 3840 or more"


_RESTRICTIONS: Mapping[str, Callable[[NodeProto, _Values], Iterator[str]]] = {
    "Attention": _attention,
    "AveragePool": _pool,
    "Constant": _choice({"sparse_value": (), "value_string": (), "value_strings": ()}),
    "CumSum": _constant(1, "axis"),
    "LayerNormalization": _first_output,
    "LpPool": _pool,
    "MaxPool": _pool,
    "OneHot": _constant(1, "depth"),
    "Resize": _resize,
    "ScatterND": _choice({"reduction": ("none",)}),
    "Squeeze": _constant(1, "axes"),
    "TopK": _top_k,
    "Unsqueeze": _constant(1, "axes"),
    **{name: _constant(1, "axes") for name in TYPES if name.startswith("Reduce")},
}


def main(paths: Iterable[str]) -> int:
    """Print the findings of graphs; 1 if there are any."""
    findings = [f"{path}: {finding}" for path in paths for finding in lint(Path(path))]
    print("\n".join(findings) or "TensorRT's parser takes all of it")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
