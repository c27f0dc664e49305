"""DoRA: a weight whose vectors keep the norms that were learned beside its change (Liu et al. 2024).

https://arxiv.org/abs/2402.09353, as PEFT and LyCORIS merge it: magnitude x (W + change) / |W + change|.
"""

from __future__ import annotations

from math import prod

import numpy as np

from sdrt.lora.factors import Matrix

PEFT = "lora_magnitude_vector"
LYCORIS = "dora_scale"


def axis_of(part: str, shape: tuple[int, ...], weight: tuple[int, ...]) -> int:
    """The axis of a weight that magnitudes run along: 0, its outputs, or 1, its inputs.

    PEFT's are of outputs, in any shape; LyCORIS's of outputs as [out, 1, ...], of inputs as [1, in, ...].
    Raises ValueError if they fit neither.
    """
    if len(weight) > 1 and part == LYCORIS and shape[:2] == (1, weight[1]) and prod(shape) == weight[1]:
        return 1
    if prod(shape) != weight[0]:
        raise ValueError
    return 0


def with_magnitudes(weight: Matrix, magnitudes: Matrix, axis: int) -> Matrix:
    """The weight [out, in, ...] with vectors of these lengths along an axis."""
    others = tuple(one for one in range(weight.ndim) if one != axis)
    weight = np.ascontiguousarray(weight)  # sums then do not depend on how it lies in memory
    norms = np.sqrt(np.square(weight, dtype=np.float64).sum(axis=others, keepdims=True))
    scaled: Matrix = (weight * (magnitudes.reshape(norms.shape) / norms)).astype(np.float32)
    return scaled
