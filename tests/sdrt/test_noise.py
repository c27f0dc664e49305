"""The noise of a seed is torch's, so that it gives the picture it gives in diffusers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdrt.noise import NoiseGenerator

SHAPES = [(1,), (3,), (15,), (16,), (17,), (31,), (2, 5), (1, 4, 8, 8), (1, 4, 9, 13), (1, 4, 64, 64)]
TOLERANCE = 2e-6  # float32 logarithm, sine and cosine of torch's vector code against numpy's


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32 + 5, 2**63 - 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_torch(seed, shape):
    noise = NoiseGenerator(seed).randn(shape)
    expected = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)).numpy()
    assert noise.dtype == np.float32
    np.testing.assert_allclose(noise, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "shapes",
    [
        [(1, 4, 8, 8)] * 3,
        [(3,), (3,), (16,), (1,)],  # the odd normal of a pair is kept for the next small tensor
        [(17,), (17,), (5,), (1, 4, 9, 13)],
        [(1,), (64,), (1,)],
    ],
    ids=str,
)
def test_successive_calls_continue_the_stream(shapes):
    generator, theirs = NoiseGenerator(7), torch.Generator("cpu").manual_seed(7)
    for shape in shapes:
        expected = torch.randn(shape, generator=theirs).numpy()
        np.testing.assert_allclose(generator.randn(shape), expected, rtol=0, atol=TOLERANCE)


def test_is_unit_gaussian():
    noise = NoiseGenerator(3).randn((400, 1000))
    # four standard errors of mean and variance over 4e5 values
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / noise.size)
