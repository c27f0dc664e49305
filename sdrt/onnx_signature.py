"""What an ONNX graph takes and gives, as its file declares it, without the `onnx` package.

ModelProto.graph (7), GraphProto.input (11) and output (12); ValueInfoProto.name (1) and type (2);
TypeProto.tensor_type (1); TypeProto.Tensor.elem_type (1) and shape (2); TensorShapeProto.dim (1);
Dimension.dim_value (1). See onnx.proto3, IR version 10.
"""

from __future__ import annotations

from pathlib import Path

from sdrt.errors import BundleError
from sdrt.protobuf import fields
from sdrt.tensors import TensorSpec

# TensorProto.DataType
_DTYPES = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}

Signature = tuple[dict[str, TensorSpec], dict[str, TensorSpec]]


def read_signature(graph: Path) -> Signature:
    """Inputs and outputs of an ONNX file by name.

    Raises BundleError naming the file if it is not a readable ONNX graph, or takes or gives anything else
    than tensors of the usual types.
    """
    inputs: dict[str, TensorSpec] = {}
    outputs: dict[str, TensorSpec] = {}
    kinds = {11: inputs, 12: outputs}
    try:
        for message in _all(memoryview(graph.read_bytes()), 7):
            for number, value in fields(message):
                if number in kinds and not isinstance(value, int):
                    name, spec = _value_info(value)
                    kinds[number][name] = spec
        if not outputs:
            raise ValueError("gives nothing")
    except (IndexError, KeyError, ValueError):  # a UnicodeDecodeError is a ValueError
        raise BundleError(
            f"{graph} is not an ONNX graph, or a damaged one; export the bundle again"
        ) from None
    return inputs, outputs


def _value_info(message: memoryview) -> tuple[str, TensorSpec]:
    (name,), (kind,) = _all(message, 1), _all(message, 2)
    (tensor,) = _all(kind, 1)
    (dtype,) = (value for number, value in fields(tensor) if number == 1 and isinstance(value, int))
    axes = [axis for shape in _all(tensor, 2) for axis in _all(shape, 1)]
    return bytes(name).decode(), TensorSpec(_DTYPES[dtype], tuple(map(_axis, axes)))


def _axis(message: memoryview) -> int | None:
    return next((value for number, value in fields(message) if number == 1 and isinstance(value, int)), None)


def _all(message: memoryview, field: int) -> list[memoryview]:
    return [value for number, value in fields(message) if number == field and not isinstance(value, int)]
