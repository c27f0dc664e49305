"""What a package of AOTInductor computes with, and how it is made of a graph's weights.

A package is code: it holds no weights, but a list of the tensors that it must be given, as JSON in its
metadata. So a bundle keeps each weight once, whatever engines it has, and a LoRA is other weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from sdrt.backends.protocol import Array
from sdrt.onnx_initializers import Initializer

METADATA_KEY = "sdrt_constants"
TRANSPOSED = ".transposed"  # behind the name of a weight that its graph stores as [in, out]


class Constant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tensor of a package.

    sources: the initializers of the graph that it is made of, one below the other; none if it is `values`,
    in C order. rows: how many there are; a table may have fewer, the rest are zero. stride: in elements.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    sources: tuple[str, ...] = ()
    values: bytes = b""


def encode(constants: Mapping[str, Constant]) -> str:
    """As a package keeps them."""
    return msgspec.json.encode(constants).decode()


def decode(text: str) -> dict[str, Constant]:
    """What a package keeps. Raises ValueError if that is damaged."""
    return msgspec.json.decode(text, type=dict[str, Constant])


def assemble(constant: Constant, stored: Mapping[str, Initializer], overrides: Mapping[str, Array]) -> Array:
    """The values of a constant, in its shape and dtype; not always contiguous.

    overrides: initializers by name that are taken in place of the graph's. Raises ValueError if they do not
    make its shape; KeyError if the graph lacks one.
    """
    if not constant.sources:
        return np.frombuffer(constant.values, constant.dtype).reshape(constant.shape).copy()
    parts = []
    for name in constant.sources:
        part = overrides[name] if name in overrides else stored[name].read()
        parts.append(part.T if name.endswith(TRANSPOSED) else part)
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    whole = whole.astype(constant.dtype, copy=False)
    if len(whole) < constant.shape[0]:
        table = np.zeros((constant.shape[0], *whole.shape[1:]), whole.dtype)
        table[: len(whole)] = whole
        whole = table
    return whole.reshape(constant.shape)  # norms: graphs scale [B, C, h, w] by [C, 1, 1]
