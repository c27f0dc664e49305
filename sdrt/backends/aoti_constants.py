"""What a package of AOTInductor computes with, and how it is made of a graph's weights.

A package is code: it holds no weights, but a list of the tensors that it must be given, as JSON in its
metadata. So a bundle keeps each weight once, whatever engines it has, and a LoRA is other weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

METADATA_KEY = "sdrt_constants"


class Constant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tensor of a package.

    sources: the initializers of the graph that it is made of, one below the other, which may have fewer rows
    than its shape: the rest are zero. Without any it is `values`, in C order. stride: in elements.
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
