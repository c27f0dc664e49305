"""The kinds of changes, each told by the names of its factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sdrt.lora.factors import (
    Arrays,
    Matrix,
    Shapes,
    Size,
    columns,
    flat,
    measure_loha,
    measure_lokr,
    measure_lora,
    multiply_loha,
    multiply_lokr,
    multiply_lora,
)
from sdrt.lora.rotations import measure_rotation, rotate
from sdrt.lora.scaling import glora, measure_glora, measure_ia3, scale_inputs, scale_outputs


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way to write a change.

    measure: the size of the weight by the shapes of the factors; raises ValueError or IndexError if they do
    not fit together. change: what is added to a weight of PyTorch's shape: [rows, columns] float32, the same
    however the weight lies in memory.
    takes_alpha: alpha is a factor and no scale. takes_magnitude: DoRA may set the norms of the sum.
    """

    name: str
    measure: Callable[[Shapes], Size]
    change: Callable[[Arrays, Matrix], Matrix]
    takes_alpha: bool = False
    takes_magnitude: bool = False


def kind_of_factors(names: set[str]) -> Kind | None:
    """The kind that has just these factors; None if one is missing or too many."""
    return next((kind for kind, factors in _KINDS if any(names == one for one in factors)), None)


def _measure_difference(shapes: Shapes) -> Size:
    shape = shapes["diff"]
    return Size(rows=shape[0], columns=columns(shape), rank=None)


def _difference(arrays: Arrays, _: Matrix) -> Matrix:
    return flat(arrays["diff"])


_LORA = {"up", "down"}
_LOHA = {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}
_LOKR_1 = ({"lokr_w1"}, {"lokr_w1_a", "lokr_w1_b"})
_LOKR_2 = ({"lokr_w2"}, {"lokr_w2_a", "lokr_w2_b"}, {"lokr_w2_a", "lokr_w2_b", "lokr_t2"})
_OFT = {"oft_blocks"}
_KINDS: tuple[tuple[Kind, list[set[str]]], ...] = (
    (
        Kind(name="LoRA", measure=measure_lora, change=multiply_lora, takes_magnitude=True),
        [_LORA, _LORA | {"mid"}],
    ),
    (
        Kind(name="LoHa", measure=measure_loha, change=multiply_loha, takes_magnitude=True),
        [_LOHA, _LOHA | {"hada_t1", "hada_t2"}],
    ),
    (
        Kind(name="LoKr", measure=measure_lokr, change=multiply_lokr, takes_magnitude=True),
        [one | two for one in _LOKR_1 for two in _LOKR_2],
    ),
    (Kind(name="a full difference", measure=_measure_difference, change=_difference), [{"diff"}]),
    (Kind(name="GLoRA", measure=measure_glora, change=glora), [{"a1", "a2", "b1", "b2"}]),
    (
        Kind(name="OFT", measure=measure_rotation, change=rotate, takes_alpha=True),
        [_OFT, _OFT | {"rescale"}],
    ),
    (
        Kind(name="IA3", measure=measure_ia3("outputs"), change=scale_outputs),
        [{"outputs"}],
    ),
    (
        Kind(name="IA3", measure=measure_ia3("inputs"), change=scale_inputs),
        [{"inputs"}],
    ),
)
