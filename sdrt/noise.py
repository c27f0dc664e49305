"""Gaussian noise equal to torch's CPU generator, so that a seed gives the picture it gives in diffusers.

torch seeds a 32-bit Mersenne Twister (Matsumoto and Nishimura 1998) and turns its integers into normals by
Box and Muller 1958, in one of two ways that depend on the size of the tensor: blocks of 16 float32, or, below
16 elements, one float64 pair at a time. See ATen/native/cpu/DistributionTemplates.h of PyTorch 2.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16


class NoiseGenerator:
    """The stream of `torch.Generator("cpu").manual_seed(seed)`; successive calls continue it.

    seed: torch uses its lowest 32 bits.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._twister = np.random.MT19937()
        # RandomState seeds as torch does; MT19937's own constructor hashes the seed first
        self._twister.state = np.random.RandomState(seed & 0xFFFFFFFF).get_state(legacy=False)  # type: ignore[assignment]
        self._spare: float | None = None

    def randn(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """As `torch.randn(shape, generator=generator)`: float32 of that shape.

        Equal to torch up to the last bits of log, sin and cos (2e-6 absolute was measured).
        """
        size = math.prod(shape)
        values = self._blocks(size) if size >= _BLOCK else self._pairs(size)
        return values.reshape(shape)

    def _blocks(self, size: int) -> NDArray[np.float32]:
        whole = size // _BLOCK * _BLOCK
        values = np.empty(size, np.float32)
        uniforms = self._uniform_float32(size)
        values[:whole] = _box_muller(uniforms[:whole])
        if whole < size:  # torch draws the last 16 anew, overlapping the block before
            values[-_BLOCK:] = _box_muller(self._uniform_float32(_BLOCK))
        return values

    def _pairs(self, size: int) -> NDArray[np.float32]:
        values = np.empty(size, np.float32)
        for i in range(size):
            if self._spare is not None:
                values[i], self._spare = self._spare, None
                continue
            u, v = self._uniform_float64(2)
            radius, angle = math.sqrt(-2.0 * math.log1p(-v)), 2.0 * math.pi * u
            values[i], self._spare = radius * math.cos(angle), radius * math.sin(angle)
        return values

    def _uniform_float32(self, size: int) -> NDArray[np.float32]:
        bits = self._twister.random_raw(size) & 0xFFFFFF
        return bits.astype(np.float32) * np.float32(2**-24)

    def _uniform_float64(self, size: int) -> list[float]:
        high, low = self._twister.random_raw(2 * size).reshape(size, 2).T
        bits = ((high << np.uint64(32)) | low) & np.uint64(2**53 - 1)
        return [float(b) * 2.0**-53 for b in bits]


def slerp(start: NDArray[np.float32], end: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """From one noise, `share` of the way to another, float32: spherical interpolation (Shoemake 1985).

    The angle is that between both as vectors; so what is in between is as loud as they are, and still noise.
    """
    a, b = start.astype(np.float64).ravel(), end.astype(np.float64).ravel()
    angle = np.arccos(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1.0, 1.0))
    if np.sin(angle) < 1e-6:  # the same noise twice
        return start
    mixed = (np.sin((1.0 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
    slerped: NDArray[np.float32] = mixed.astype(np.float32).reshape(start.shape)
    return slerped


def _box_muller(uniforms: NDArray[np.float32]) -> NDArray[np.float32]:
    # uniforms: [blocks * 16]; of each block the first 8 give radii, the last 8 angles
    u, v = uniforms.reshape(-1, 2, _BLOCK // 2).swapaxes(0, 1)
    radius = np.sqrt(np.float32(-2.0) * np.log(np.float32(1.0) - u))
    angle = np.float32(2.0 * math.pi) * v
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
