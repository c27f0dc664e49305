"""Changes that scale or mix what a weight has: IA3 and GLoRA, as LyCORIS writes them.

IA3: Liu et al. 2022, https://arxiv.org/abs/2205.05638; GLoRA: Chavan et al. 2023,
https://arxiv.org/abs/2306.07967.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from sdrt.lora.factors import Arrays, Matrix, Shapes, Size, check_equal, columns, flat


def measure_ia3(part: str) -> Callable[[Shapes], Size]:
    """How to measure scales of outputs, or of inputs."""

    def measure(shapes: Shapes) -> Size:
        count = prod(shapes[part])
        check_equal((max(shapes[part]), count))
        if part == "outputs":
            return Size(rows=count, columns=None, rank=None)
        return Size(rows=None, columns=None, rank=None, inputs=count)

    return measure


def scale_outputs(arrays: Arrays, weight: Matrix) -> Matrix:
    """Weight times the scale of each output, which is 0 where nothing changes."""
    product: Matrix = weight.reshape(len(weight), -1) * arrays["outputs"].reshape(-1, 1)
    return product


def scale_inputs(arrays: Arrays, weight: Matrix) -> Matrix:
    """Weight times the scale of each input."""
    rows, inputs = weight.shape[:2]
    product: Matrix = weight.reshape(rows, inputs, -1) * arrays["inputs"].reshape(-1, 1)
    return product.reshape(rows, -1)


def measure_glora(shapes: Shapes) -> Size:
    """Size of B, and that A mixes its inputs."""
    first, inner, last, other = (shapes[name] for name in _names(shapes))
    rank = last[0]
    check_equal((columns(first), rank), (columns(inner), first[0]), (len(inner), len(first)))
    check_equal((inner[0], rank), (columns(other), rank), (first[0], last[1]))
    return Size(rows=other[0], columns=columns(last), rank=rank, inputs=first[0])


def glora(arrays: Arrays, weight: Matrix) -> Matrix:
    """W A + B, both of low rank; A [in, in] is the same for each pixel of a kernel."""
    first, inner, last, other = (arrays[name] for name in _names({k: a.shape for k, a in arrays.items()}))
    weight = np.ascontiguousarray(weight)
    mixed = np.einsum("oik,ir->ork", weight.reshape(*weight.shape[:2], -1), flat(first))
    mixed = np.einsum("ork,rj->ojk", mixed, flat(inner))
    total: Matrix = mixed.reshape(len(weight), -1) + flat(other) @ flat(last)
    return total


def _names(shapes: Shapes) -> tuple[str, str, str, str]:
    """Factors of A [in, rank] and [rank, in], then of B [rank, in] and [out, rank].

    The first releases of LyCORIS had the names the other way round.
    """
    if shapes["a1"][0] >= shapes["a1"][1] and shapes["b1"][1] == shapes["a1"][1]:
        return "a1", "a2", "b2", "b1"
    return "a2", "a1", "b1", "b2"
