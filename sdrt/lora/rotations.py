"""OFT and BOFT: a weight whose rows are turned in blocks.

OFT: Qiu et al. 2023, https://arxiv.org/abs/2306.07280; BOFT: Liu et al. 2023,
https://arxiv.org/abs/2311.06243, as LyCORIS and kohya's trainer write them: `oft_blocks` are Q [blocks, n, n]
of Cayley's transform, with one more axis in front for the factors of BOFT; `alpha` bounds their norm.
"""

from __future__ import annotations

import numpy as np

from sdrt.lora.factors import Arrays, Matrix, Shapes, Size, check_equal


def measure_rotation(shapes: Shapes) -> Size:
    """Rows by the blocks; the rest of the weight may be of any size."""
    *factors, count, size, other = shapes["oft_blocks"]
    rows = count * size
    check_equal((size, other))
    if factors:
        # factor i pairs rows that are 2^i halves of a block apart
        (number,) = factors
        check_equal((rows % (2 ** (number - 1) * size), 0), (size % 2, 0))
    rescale = shapes.get("rescale")
    if rescale is not None:
        check_equal((rescale[0], rows), (int(np.prod(rescale)), rows))
    return Size(rows=rows, columns=None, rank=None)


def rotate(arrays: Arrays, weight: Matrix) -> Matrix:
    """What the rotation adds to a weight [out, ...]: [out, rest]."""
    blocks = arrays["oft_blocks"]
    flat = np.ascontiguousarray(weight).reshape(len(weight), -1)
    turns = _cayley(blocks, float(arrays["alpha"].item()) * len(weight) if "alpha" in arrays else 0.0)
    if blocks.ndim == 3:
        count, size = blocks.shape[:2]
        turned = np.einsum("knm,knp->kmp", turns, flat.reshape(count, size, -1)).reshape(flat.shape)
    else:
        turned = flat
        for i, factor in enumerate(turns):
            turned = _butterfly(factor, turned, 2**i * blocks.shape[-1] // 2)
    if "rescale" in arrays:
        turned = turned * arrays["rescale"].reshape(-1, 1)
    difference: Matrix = turned - flat
    return difference


def _cayley(blocks: Matrix, bound: float) -> Matrix:
    """(I + Q) (I - Q)^-1 of each skew-symmetric part Q. bound: of the norm of all, if it is above 0."""
    skew = blocks.astype(np.float64)
    skew = skew - np.swapaxes(skew, -1, -2)
    norm = np.linalg.norm(skew)
    if 0 < bound < norm:
        skew *= bound / norm
    identity = np.eye(blocks.shape[-1])
    # both commute, since they are polynomials of Q
    turns: Matrix = np.linalg.solve(identity - skew, identity + skew).astype(np.float32)
    return turns


def _butterfly(factor: Matrix, flat: Matrix, distance: int) -> Matrix:
    """One factor [blocks, n, n] of BOFT, for pairs of rows that are `distance` apart."""
    rest = flat.shape[1]
    shuffled = flat.reshape(-1, 2, distance, rest).swapaxes(1, 2).reshape(len(factor), -1, rest)
    turned = factor @ shuffled
    back: Matrix = turned.reshape(-1, distance, 2, rest).swapaxes(1, 2).reshape(flat.shape)
    return back
