"""Weights on hidden states. Tolerance 1e-6 relative: float32 rounding of a product and a mean."""

import numpy as np
import pytest

from sdrt.prompt import emphasize


def states(seed=0, shape=(77, 16), dtype=np.float32):
    return (np.random.default_rng(seed).standard_normal(shape) + 0.3).astype(dtype)


def test_weights_and_mean_by_hand():
    before = np.array([[1, 2], [3, 6]], np.float32)  # mean 3, weighted 2 * [1, 2] and [3, 6]: mean 3.75
    np.testing.assert_allclose(emphasize(before, (2, 1)), [[1.6, 3.2], [2.4, 4.8]], rtol=1e-6)


def test_the_mean_is_restored_and_proportions_are_those_of_the_weights():
    before = states()
    weights = np.ones(77)
    weights[3:6] = 1.5
    weights[6] = -0.5
    after = emphasize(before, weights.tolist())
    assert after.dtype == np.float32 and after.shape == before.shape
    np.testing.assert_allclose(after.mean(dtype=np.float64), before.mean(dtype=np.float64), rtol=1e-6)
    ratio = after / before
    np.testing.assert_allclose(ratio, ratio[0, 0] * weights[:, None] * np.ones(16), rtol=1e-6)
    assert abs(ratio[0, 0] - 1) > 1e-3


def test_weights_of_1_change_nothing():
    before = states()
    after = emphasize(before, [1.0] * 77)
    assert np.array_equal(before, after) and after is not before


def test_half_precision_is_computed_in_single():
    before = states(dtype=np.float16)
    weights = [1.0, 1.3, *[1.0] * 75]
    np.testing.assert_array_equal(emphasize(before, weights), emphasize(before.astype(np.float32), weights))


@pytest.mark.parametrize("before", [[[1, 1], [-1, -1]], [[1, -1], [2, -2]], [[0, 0], [0, 0]]])
def test_a_mean_of_0_is_not_restored(before):
    np.testing.assert_array_equal(
        emphasize(np.array(before, np.float32), (1, 2)), np.multiply(before, [[1], [2]])
    )


def test_a_mean_that_becomes_0_is_not_restored():
    before = np.array([[1, 1], [1, 1]], np.float32)
    np.testing.assert_array_equal(emphasize(before, (1, -1)), [[1, 1], [-1, -1]])


def test_the_arguments_are_left_alone():
    before = states()
    copy = before.copy()
    emphasize(before, [2.0] + [1.0] * 76)
    assert np.array_equal(before, copy)
