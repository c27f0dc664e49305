"""Which files an ONNX graph reads its weights from, without the `onnx` package.

A stranger's graph may name any file of the machine as its external data; onnxruntime would open it. So the
names are read first. Only the parts of the protobuf encoding that lead to them are understood here:
ModelProto.graph (7) and functions (25), GraphProto.node (1), initializer (5) and sparse_initializer (15),
NodeProto.attribute (5), AttributeProto.t (5), g (6), tensors (10), graphs (11) and sparse tensors (22, 23),
TensorProto.external_data (13), StringStringEntryProto.key (1) and value (2). See onnx.proto3, IR version 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sdrt.errors import BundleError
from sdrt.protobuf import fields

_MODEL = {7: "graph", 25: "function"}
_FIELDS = {
    "model": _MODEL,
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_MAX_DEPTH = 64


def external_files(graph: Path) -> set[str]:
    """The locations, as written in it, of all external data of an ONNX file.

    Raises BundleError naming the file if it is not a readable ONNX graph.
    """
    try:
        return set(_locations(memoryview(graph.read_bytes()), "model", 0))
    except (IndexError, ValueError, UnicodeDecodeError):
        raise BundleError(
            f"{graph} is not an ONNX graph, or a damaged one; export the bundle again"
        ) from None


def _locations(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    kinds = _FIELDS[kind]
    for field, value in fields(message):
        child = kinds.get(field)
        if child is None or isinstance(value, int):
            continue
        if child == "entry":
            entry = entry_of(value)
            if entry[0] == b"location":
                yield entry[1].decode()
        else:
            yield from _locations(value, child, depth + 1)


def entry_of(message: memoryview) -> tuple[bytes, bytes]:
    """Key and value of a StringStringEntryProto."""
    found = {field: bytes(value) for field, value in fields(message) if not isinstance(value, int)}
    return found.get(1, b""), found.get(2, b"")
