"""Axes reach all values, and their ticks are round."""

from __future__ import annotations

import pytest

from sdrt_bench.axes import linear, logarithmic


@pytest.mark.parametrize("high", [0.0007, 0.3, 1, 7, 99, 101, 12345])
def test_linear(high):
    axis = linear([high / 3, high], 100, 300)
    assert axis.at(0) == 100 and 100 < axis.at(high) <= 300
    assert 3 <= len(axis.ticks) <= 8
    assert all(len(label) <= 6 for _, label in axis.labels())


def test_steps_are_whole():
    assert linear([1, 2], 0, 100, whole=True).ticks == (0, 1, 2)


@pytest.mark.parametrize(("values", "ends"), [([3e-7, 0.02], (1e-7, 0.1)), ([5.0], (1, 10)), ([], (1, 10))])
def test_logarithmic(values, ends):
    axis = logarithmic([0.0, *values], 200, 100)
    assert (axis.low, axis.high) == pytest.approx(ends)
    assert all(100 <= axis.at(value) <= 200 for value in values)


def test_decades_are_thinned():
    assert len(logarithmic([1e-30, 1], 0, 100).ticks) <= 9
