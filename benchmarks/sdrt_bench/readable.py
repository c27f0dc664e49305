"""Figures as people read them: three significant digits, a unit for a whole column, a spread in brackets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isinf, isnan

from sdrt_bench.report import Figure

_TO = "\u2013"  # the dash between the ends of a range
NOTHING = _TO
_DIGITS = 3
_MILLISECONDS_BELOW = 0.1


@dataclass(frozen=True)
class Unit:
    """What a column of seconds is shown in: name, and units to a second."""

    name: str
    per_second: float

    def show(self, seconds: float) -> str:
        """Seconds in this unit."""
        return significant(seconds * self.per_second)

    def show_figure(self, figure: Figure) -> str:
        """Median, then the least and the 90th percentile: one hiccup of the machine does not move them."""
        return f"{self.show(figure.median)} ({self.show(figure.least)}{_TO}{self.show(figure.p90)})"


SECONDS = Unit("s", 1.0)
MILLISECONDS = Unit("ms", 1e3)


def unit_of(seconds: Iterable[float]) -> Unit:
    """Milliseconds if the least of these would have more than one zero in seconds."""
    return MILLISECONDS if min(seconds, default=1.0) < _MILLISECONDS_BELOW else SECONDS


def significant(value: float) -> str:
    """Three digits, without an exponent where it can be read without: 0.0123, 12.3, 12,300, 1.23e-7."""
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    mantissa, _, power = f"{value:.{_DIGITS - 1}e}".partition("e")  # rounded first: 9.999 is 10.0
    exponent = int(power)
    if -4 <= exponent < 6:
        return f"{float(f'{mantissa}e{exponent}'):,.{max(_DIGITS - 1 - exponent, 0)}f}"
    return f"{mantissa}e{exponent}"


def times(ratio: Figure) -> str:
    """A ratio with the least and the most of the rounds."""
    return f"{significant(ratio.median)}x ({significant(ratio.least)}{_TO}{significant(ratio.most)})"


def percent(share: float) -> str:
    """A share of 1."""
    return f"{significant(100 * share)} %"
