"""The integrals that multistep methods and exponential integrators are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# exact for polynomials of degree 47; enough for exp over the whole range of noise levels in one step
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def lagrange_integrals(
    nodes: Sequence[float], end: float, weight: Callable[[Array], Array] = np.ones_like
) -> list[float]:
    """Integrals from 0 to `end` of weight(s) L_j(s), where L_j is 1 at node j and 0 at the others."""
    s = end / 2 * (1.0 + _NODES)
    measure = end / 2 * _WEIGHTS * weight(s)

    def basis(node: float) -> Array:
        return prod(((s - other) / (node - other) for other in nodes if other != node), start=np.ones_like(s))

    return [float(measure @ basis(node)) for node in nodes]


def combination(weights: Sequence[float], vectors: Sequence[Array]) -> Array:
    """sum_j weights[j] * vectors[j]."""
    return np.asarray(np.tensordot(weights, vectors, axes=1))


def phi_remainder(k: int, z: float) -> float:
    """phi_k(z) - 1 / k!, where phi_k(z) = sum_j z^j / (j + k)! and phi_1(z) = (e^z - 1) / z.

    Hochbruck and Ostermann 2010, "Exponential integrators", equation 2.10. Near zero by the series, since the
    recurrence loses k digits for every digit that z is small.
    """
    if abs(z) < 1.0:
        return float(sum(z**j / factorial(j + k) for j in range(1, 20)))
    remainder = float(np.expm1(z)) / z - 1.0
    for order in range(2, k + 1):
        remainder = remainder / z - 1.0 / factorial(order)
    return remainder
