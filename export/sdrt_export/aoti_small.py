"""The runtime's small graphs as PyTorch modules: what their ONNX files say, operator by operator.

The files of `sdrt/graphs` are what all backends run, so the module is made from them and not beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from sdrt.errors import ExportError

from .specs import Axes

Operator = Callable[..., Any]  # inputs in order, attributes by name


class SmallGraph(nn.Module):
    """One ONNX graph of a handful of operators without weights."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        # numbers rather than tensors: shapes and axes must be known while it is traced
        self._constants = {one.name: numpy_helper.to_array(one).tolist() for one in graph.initializer}
        self._nodes = [_node(one, path) for one in graph.node]
        self.inputs = {one.name: _axes(one) for one in graph.input}
        self.outputs = [one.name for one in graph.output]

    def forward(self, **inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs in the file's order, of inputs by name."""
        values: dict[str, Any] = {**self._constants, **inputs}
        for operator, names, output, attributes in self._nodes:
            values[output] = operator(*(values[name] for name in names), **attributes)
        return tuple(values[name] for name in self.outputs)


def _node(node: onnx.NodeProto, path: Path) -> tuple[Operator, list[str], str, dict[str, Any]]:
    if node.op_type not in OPERATORS:
        raise ExportError(f"{path} has the operator {node.op_type}, which aoti_small.py does not know")
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    (output,) = node.output
    return OPERATORS[node.op_type], list(node.input), output, attributes


def _axes(value: onnx.ValueInfoProto) -> Axes:
    return tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)


_DTYPES: Mapping[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.BOOL: torch.bool,
}


def _cast(x: Tensor, *, to: int) -> Tensor:
    return x.to(_DTYPES[to])


def _concat(*parts: Tensor, axis: int) -> Tensor:
    return torch.cat(parts, axis)


def _gather(x: Tensor, indices: Tensor | int, *, axis: int) -> Tensor:
    if isinstance(indices, int):
        return x.select(axis, indices)
    return x[(slice(None),) * axis + (indices,)]


def _reduce_max(x: Tensor, axes: list[int], *, keepdims: int) -> Tensor:
    return x.amax(axes, keepdim=bool(keepdims))


def _reduce_sum(x: Tensor, axes: list[int], *, keepdims: int) -> Tensor:
    return x.sum(axes, keepdim=bool(keepdims))


def _reduce_sum_square(x: Tensor, axes: list[int], *, keepdims: int) -> Tensor:
    return (x * x).sum(axes, keepdim=bool(keepdims))


def _reshape(x: Tensor, shape: list[int]) -> Tensor:
    """A size of 0 is that of the input."""
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)])


def _shape(x: Tensor) -> list[int]:
    return list(x.shape)


def _transpose(x: Tensor, *, perm: list[int]) -> Tensor:
    return x.permute(perm)


def _unsqueeze(x: Tensor, axes: list[int]) -> Tensor:
    for axis in sorted(axes):
        x = x.unsqueeze(axis)
    return x


# https://onnx.ai/onnx/operators/, opset 20
OPERATORS: Mapping[str, Operator] = {
    "Add": torch.add,
    "Cast": _cast,
    "Clip": torch.clamp,
    "Concat": _concat,
    "Gather": _gather,
    "IsInf": torch.isinf,
    "IsNaN": torch.isnan,
    "Less": torch.lt,
    "MatMul": torch.matmul,
    "Mul": torch.mul,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "ReduceMax": _reduce_max,
    "ReduceSum": _reduce_sum,
    "ReduceSumSquare": _reduce_sum_square,
    "Reshape": _reshape,
    "Round": torch.round,
    "Shape": _shape,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
