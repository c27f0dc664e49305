"""The factors of a change of weights, and their product: LoRA, LoHa and LoKr.

LoRA: Hu et al. 2021, https://arxiv.org/abs/2106.09685; of convolutions, LoHa and LoKr: LyCORIS,
https://arxiv.org/abs/2309.14859. All products are [out, in x kernel height x kernel width].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Arrays = Mapping[str, Matrix]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Size:
    """Size of a product, and its rank, over which alpha is divided; a rank of None has no such scale."""

    rows: int
    columns: int
    rank: int | None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way to write a change.

    measure: the product's size by the shapes of the factors; raises ValueError if they do not fit together.
    multiply: the product, [rows, columns] float32.
    """

    name: str
    measure: Callable[[Shapes], Size]
    multiply: Callable[[Arrays], Matrix]


def kind_of_factors(names: set[str]) -> Kind | None:
    """The kind that has just these factors; None if one is missing or too many."""
    return next((kind for kind, factors in _KINDS if any(names == one for one in factors)), None)


def _flat(array: Matrix) -> Matrix:
    return array.reshape(len(array), -1)


def _columns(shape: tuple[int, ...]) -> int:
    return prod(shape[1:])


def _fits(*pairs: tuple[int, int]) -> None:
    if any(a != b for a, b in pairs):
        raise ValueError


def _tucker(core: Matrix, rows: Matrix, columns: Matrix) -> Matrix:
    """[out, in x kernel] of a core [m, n, kernel] between rows [out, m] and columns [n, in]."""
    m, n = core.shape[:2]
    left = rows @ core.reshape(m, -1)
    product: Matrix = np.einsum("onk,ni->oik", left.reshape(len(rows), n, -1), columns)
    return product.reshape(len(rows), -1)


def _measure_lora(shapes: Shapes) -> Size:
    up, down, mid = shapes["up"], shapes["down"], shapes.get("mid")
    _fits((_columns(up), up[1]))
    if mid is None:
        _fits((up[1], down[0]))
        return Size(rows=up[0], columns=_columns(down), rank=down[0])
    _fits((up[1], mid[0]), (mid[1], down[0]), (_columns(down), down[1]))
    return Size(rows=up[0], columns=down[1] * prod(mid[2:]), rank=down[0])


def _multiply_lora(arrays: Arrays) -> Matrix:
    up, down = _flat(arrays["up"]), _flat(arrays["down"])
    if "mid" in arrays:
        return _tucker(arrays["mid"], up, down)
    # Graphs hold linear layers as [in, out]; adding rows to columns took longer than all the rest together.
    return up @ down if arrays["down"].ndim > 2 else (down.T @ up.T).T


def _measure_loha(shapes: Shapes) -> Size:
    sizes = []
    for i in (1, 2):
        a, b, core = shapes[f"hada_w{i}_a"], shapes[f"hada_w{i}_b"], shapes.get(f"hada_t{i}")
        if core is None:
            _fits((a[1], b[0]), (len(a), 2))
            sizes.append((a[0], _columns(b), b[0]))
        else:
            _fits((a[0], core[0]), (b[0], core[1]), (len(a), 2), (len(b), 2))
            sizes.append((a[1], b[1] * prod(core[2:]), b[0]))
    _fits(*zip(sizes[0][:2], sizes[1][:2], strict=True))
    rows, columns, rank = sizes[0]
    return Size(rows=rows, columns=columns, rank=rank)


def _multiply_loha(arrays: Arrays) -> Matrix:
    products = []
    for i in (1, 2):
        a, b, core = arrays[f"hada_w{i}_a"], arrays[f"hada_w{i}_b"], arrays.get(f"hada_t{i}")
        products.append(a @ _flat(b) if core is None else _tucker(core, a.T, b))
    return products[0] * products[1]


def _measure_lokr(shapes: Shapes) -> Size:
    rows = columns = 1
    rank = None
    for i in (1, 2):
        whole, core = shapes.get(f"lokr_w{i}"), shapes.get(f"lokr_t{i}")
        if whole is not None:
            rows, columns = rows * whole[0], columns * _columns(whole)
            continue
        a, b = shapes[f"lokr_w{i}_a"], shapes[f"lokr_w{i}_b"]
        rank = b[0]
        if core is None:
            _fits((a[1], b[0]), (len(a), 2))
            rows, columns = rows * a[0], columns * _columns(b)
        else:
            _fits((a[0], core[0]), (b[0], core[1]), (len(a), 2), (len(b), 2))
            rows, columns = rows * a[1], columns * b[1] * prod(core[2:])
    return Size(rows=rows, columns=columns, rank=rank)


def _multiply_lokr(arrays: Arrays) -> Matrix:
    # the kernel stays behind both factors' inputs, because the first factor has none
    return np.kron(_lokr_factor(arrays, 1), _lokr_factor(arrays, 2))


def _lokr_factor(arrays: Arrays, i: int) -> Matrix:
    whole, core = arrays.get(f"lokr_w{i}"), arrays.get(f"lokr_t{i}")
    if whole is not None:
        return _flat(whole)
    a, b = arrays[f"lokr_w{i}_a"], arrays[f"lokr_w{i}_b"]
    return a @ _flat(b) if core is None else _tucker(core, a.T, b)


_LORA = {"up", "down"}
_LOHA = {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}
_LOKR_1 = ({"lokr_w1"}, {"lokr_w1_a", "lokr_w1_b"})
_LOKR_2 = ({"lokr_w2"}, {"lokr_w2_a", "lokr_w2_b"}, {"lokr_w2_a", "lokr_w2_b", "lokr_t2"})
_KINDS = (
    (Kind(name="LoRA", measure=_measure_lora, multiply=_multiply_lora), [_LORA, _LORA | {"mid"}]),
    (
        Kind(name="LoHa", measure=_measure_loha, multiply=_multiply_loha),
        [_LOHA, _LOHA | {"hada_t1", "hada_t2"}],
    ),
    (
        Kind(name="LoKr", measure=_measure_lokr, multiply=_multiply_lokr),
        [one | two for one in _LOKR_1 for two in _LOKR_2],
    ),
)
