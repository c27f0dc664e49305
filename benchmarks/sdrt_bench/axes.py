"""From values to places: linear and logarithmic axes with round ticks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, log10

from sdrt_bench.readable import significant

_MOST_DECADES = 7  # labelled on a logarithmic axis


@dataclass(frozen=True)
class Axis:
    """A scale from `low` at pixel `start` to `high` at pixel `end`. ticks: the values that are labelled."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high = (log10(self.low), log10(self.high)) if self.log else (self.low, self.high)
        place = log10(value) if self.log else value
        return self.start + (place - low) / (high - low) * (self.end - self.start)

    def labels(self) -> list[tuple[float, str]]:
        """Pixels and texts of the ticks."""
        return [(self.at(tick), significant_tick(tick)) for tick in self.ticks]


def significant_tick(value: float) -> str:
    """A tick's value without zeros behind: 0.5, not 0.500."""
    text = significant(value)
    mantissa, e, exponent = text.partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return mantissa + e + exponent


def linear(values: Iterable[float], start: float, end: float, *, whole: bool = False, count: int = 5) -> Axis:
    """From zero to positive values; about `count` ticks at steps of 1, 2 or 5 times a power of ten.

    whole: no fractions between.
    """
    high = max(values, default=0.0) or 1.0
    rough = max(high / count, 1.0 if whole else 0.0)
    power: float = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    ticks = tuple(step * number for number in range(ceil(high / step - 1e-9) + 1))
    return Axis(ticks[0], ticks[-1], start, end, ticks)


def logarithmic(values: Iterable[float], start: float, end: float) -> Axis:
    """Around positive values, from one power of ten to another; without any, from 1 to 10."""
    positive = [value for value in values if value > 0] or [1.0]
    first, last = floor(log10(min(positive)) + 1e-9), ceil(log10(max(positive)) - 1e-9)
    last = max(last, first + 1)
    every = ceil((last - first) / _MOST_DECADES)
    decades = [*range(first, last, every), last]
    if len(decades) > 2 and decades[-1] - decades[-2] < every:
        del decades[-2]  # its label would touch the last one's
    ticks = tuple(10.0**decade for decade in decades)
    return Axis(ticks[0], ticks[-1], start, end, ticks, log=True)
