"""The weights of an ONNX graph: where each lies, and what it holds, without the `onnx` package.

ModelProto.graph (7), GraphProto.initializer (5); TensorProto.dims (1), data_type (2), name (8), raw_data (9),
external_data (13), data_location (14). See onnx.proto3, IR version 10, and ONNX's ExternalData.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import cast

import numpy as np

from sdrt.backends.protocol import Array
from sdrt.errors import BundleError
from sdrt.onnx_external_data import entry_of
from sdrt.protobuf import encode, encoded_fields, fields, varints

TRANSPOSED = ".transposed"  # behind the name of a linear layer that the export stored as [in, out]
_DTYPES = {1: "float32", 10: "float16", 11: "float64"}  # TensorProto.DataType
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 8, 9, 13, 14
_EXTERNAL = 1  # TensorProto.DataLocation


@dataclass(frozen=True, kw_only=True)
class Initializer:
    """One floating tensor of a graph.

    external: its elements lie in `file` from byte `offset` on. Otherwise they are `inline`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    external: bool
    file: Path
    offset: int
    inline: bytes

    def read(self) -> Array:
        """The tensor, in memory of its own.

        It is read rather than mapped: pages of a mapped file would count as memory of the process.
        """
        if not self.external:
            return np.frombuffer(self.inline, self.dtype).reshape(self.shape).copy()
        return np.fromfile(self.file, self.dtype, prod(self.shape), offset=self.offset).reshape(self.shape)


def read_initializers(graph: Path) -> dict[str, Initializer]:
    """The floating initializers of an ONNX file by name.

    Raises BundleError naming the file if it is damaged, or if a tensor lies outside the files beside it.
    """
    try:
        found = list(_initializers(graph, memoryview(graph.read_bytes())))
    except (IndexError, ValueError):  # a UnicodeDecodeError is a ValueError
        raise BundleError(
            f"{graph} is not an ONNX graph, or a damaged one; export the bundle again"
        ) from None
    sizes = {file: _size(file) for file in {one.file for one in found}}
    for one in found:
        length = prod(one.shape) * np.dtype(one.dtype).itemsize
        room = sizes[one.file] - one.offset if one.external else len(one.inline)
        if one.offset < 0 or length > room or (not one.external and length != room):
            raise BundleError(
                f"{graph}: {one.name} {one.dtype}{list(one.shape)} is not where the graph says; "
                "export the bundle again"
            )
    return {one.name: one for one in found}


def missing_weight(graph: Path, name: str) -> BundleError:
    """What to raise if a weight that shall be replaced is not in the graph."""
    return BundleError(f"{graph} has no weight {name} to replace; export the bundle again")


def with_external_shapes(graph: Path, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """An ONNX file as if these initializers were external and of these shapes: to be replaced, not read."""
    model = memoryview(graph.read_bytes())
    return _rebuilt(model, 7, lambda inner: _rebuilt(inner, 5, lambda tensor: _reshaped(tensor, shapes)))


def _rebuilt(message: memoryview, field: int, change: Callable[[memoryview], bytes]) -> bytes:
    return b"".join(
        encode(field, change(value)) if number == field and isinstance(value, memoryview) else encoded
        for number, value, encoded in encoded_fields(message)
    )


def _reshaped(tensor: memoryview, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    found = dict(fields(tensor))
    name = bytes(cast(memoryview, found.get(_NAME, b"")))
    shape = shapes.get(name.decode())
    if shape is None:
        return bytes(tensor)
    location = encode(1, b"location") + encode(2, b"replaced")
    parts = [encode(_DIMS, size) for size in shape]
    parts += [encode(_DATA_TYPE, cast(int, found[_DATA_TYPE])), encode(_NAME, name)]
    return b"".join([*parts, encode(_EXTERNAL_DATA, location), encode(_DATA_LOCATION, _EXTERNAL)])


def _size(file: Path) -> int:
    """Bytes of a plain file; -1 for anything else."""
    try:
        return file.stat().st_size if file.is_file() else -1
    except (OSError, ValueError):  # ValueError: NUL in the name
        return -1


def _initializers(graph: Path, model: memoryview) -> Iterator[Initializer]:
    for field, value in fields(model):
        if field == 7 and not isinstance(value, int):
            for inner, tensor in fields(value):
                if inner == 5 and not isinstance(tensor, int):
                    initializer = _initializer(graph, tensor)
                    if initializer is not None:
                        yield initializer


def _initializer(graph: Path, tensor: memoryview) -> Initializer | None:
    name, dtype, inline = "", "", b""
    shape: list[int] = []
    external: dict[bytes, bytes] = {}
    for field, value in fields(tensor):
        if isinstance(value, int):
            if field == _DIMS:
                shape.append(value)
            elif field == _DATA_TYPE:
                dtype = _DTYPES.get(value, "")
        elif field == _DIMS:
            shape.extend(varints(value))
        elif field == _NAME:
            name = bytes(value).decode()
        elif field == _RAW_DATA:
            inline = bytes(value)
        elif field == _EXTERNAL_DATA:
            external |= [entry_of(value)]
    if not dtype or not (external or inline):
        return None
    location = PurePosixPath(external.get(b"location", b"").decode())
    if location.is_absolute() or ".." in location.parts:
        raise BundleError(f"{graph} reads its weights from {str(location)!r}, outside the bundle; refused")
    return Initializer(
        name=name,
        dtype=dtype,
        shape=tuple(shape),
        external=bool(external),
        file=graph.parent / location,
        offset=int(external.get(b"offset", b"0")),
        inline=inline,
    )
