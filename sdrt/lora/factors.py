"""The factors of a change of weights, and their product: LoRA, LoHa and LoKr.

LoRA: Hu et al. 2021, https://arxiv.org/abs/2106.09685; of convolutions, LoHa and LoKr: LyCORIS,
https://arxiv.org/abs/2309.14859. All products are [out, in x kernel height x kernel width].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Arrays = Mapping[str, Matrix]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Size:
    """Size of the weight that factors change, [rows, columns]; None where they fit any.

    rank: over which alpha is divided; None has no such scale. inputs: of the weight, without its kernel.
    """

    rows: int | None
    columns: int | None
    rank: int | None
    inputs: int | None = None


def flat(array: Matrix) -> Matrix:
    """[out, in x kernel]."""
    return array.reshape(len(array), -1)


def columns(shape: tuple[int, ...]) -> int:
    """Of a factor that is flat."""
    return prod(shape[1:])


def check_equal(*pairs: tuple[int, int]) -> None:
    """Raise ValueError unless the sizes of each pair are the same."""
    if any(a != b for a, b in pairs):
        raise ValueError


def _tucker(core: Matrix, rows: Matrix, inputs: Matrix) -> Matrix:
    """[out, in x kernel] of a core [m, n, kernel] between rows [out, m] and inputs [n, in]."""
    m, n = core.shape[:2]
    left = rows @ core.reshape(m, -1)
    product: Matrix = np.einsum("onk,ni->oik", left.reshape(len(rows), n, -1), inputs)
    return product.reshape(len(rows), -1)


def measure_lora(shapes: Shapes) -> Size:
    """Size of up @ down, or of up @ mid @ down for each pixel of a kernel."""
    up, down, mid = shapes["up"], shapes["down"], shapes.get("mid")
    check_equal((columns(up), up[1]))
    if mid is None:
        check_equal((up[1], down[0]))
        return Size(rows=up[0], columns=columns(down), rank=down[0])
    check_equal((up[1], mid[0]), (mid[1], down[0]), (columns(down), down[1]))
    return Size(rows=up[0], columns=down[1] * prod(mid[2:]), rank=down[0])


def multiply_lora(arrays: Arrays, _: Matrix) -> Matrix:
    """up @ down, or with a core between them."""
    up, down = flat(arrays["up"]), flat(arrays["down"])
    if "mid" in arrays:
        return _tucker(arrays["mid"], up, down)
    # Graphs hold linear layers as [in, out]; adding rows to columns took longer than all the rest together.
    return up @ down if arrays["down"].ndim > 2 else (down.T @ up.T).T


def measure_loha(shapes: Shapes) -> Size:
    """Size of the product of two products."""
    sizes = []
    for i in (1, 2):
        a, b, core = shapes[f"hada_w{i}_a"], shapes[f"hada_w{i}_b"], shapes.get(f"hada_t{i}")
        if core is None:
            check_equal((a[1], b[0]), (len(a), 2))
            sizes.append((a[0], columns(b), b[0]))
        else:
            check_equal((a[0], core[0]), (b[0], core[1]), (len(a), 2), (len(b), 2))
            sizes.append((a[1], b[1] * prod(core[2:]), b[0]))
    check_equal(*zip(sizes[0][:2], sizes[1][:2], strict=True))
    rows, across, rank = sizes[0]
    return Size(rows=rows, columns=across, rank=rank)


def multiply_loha(arrays: Arrays, _: Matrix) -> Matrix:
    """The products of two pairs of factors, multiplied element by element."""
    products = []
    for i in (1, 2):
        a, b, core = arrays[f"hada_w{i}_a"], arrays[f"hada_w{i}_b"], arrays.get(f"hada_t{i}")
        products.append(a @ flat(b) if core is None else _tucker(core, a.T, b))
    return products[0] * products[1]


def measure_lokr(shapes: Shapes) -> Size:
    """Size of a Kronecker product."""
    rows = across = 1
    rank = None
    for i in (1, 2):
        whole, core = shapes.get(f"lokr_w{i}"), shapes.get(f"lokr_t{i}")
        if whole is not None:
            rows, across = rows * whole[0], across * columns(whole)
            continue
        a, b = shapes[f"lokr_w{i}_a"], shapes[f"lokr_w{i}_b"]
        rank = b[0]
        if core is None:
            check_equal((a[1], b[0]), (len(a), 2))
            rows, across = rows * a[0], across * columns(b)
        else:
            check_equal((a[0], core[0]), (b[0], core[1]), (len(a), 2), (len(b), 2))
            rows, across = rows * a[1], across * b[1] * prod(core[2:])
    return Size(rows=rows, columns=across, rank=rank)


def multiply_lokr(arrays: Arrays, _: Matrix) -> Matrix:
    """The Kronecker product of two factors, each whole or a product itself."""
    # the kernel stays behind both factors' inputs, because the first factor has none
    return np.kron(_lokr_factor(arrays, 1), _lokr_factor(arrays, 2))


def _lokr_factor(arrays: Arrays, i: int) -> Matrix:
    whole, core = arrays.get(f"lokr_w{i}"), arrays.get(f"lokr_t{i}")
    if whole is not None:
        return flat(whole)
    a, b = arrays[f"lokr_w{i}_a"], arrays[f"lokr_w{i}_b"]
    return a @ flat(b) if core is None else _tucker(core, a.T, b)
