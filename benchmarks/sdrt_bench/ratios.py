"""How many times as quick as the reference: by rounds, since what ran side by side met the same machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from sdrt_bench.peers import Generated
from sdrt_bench.report import Figure
from sdrt_bench.scenario import Scenario
from sdrt_bench.speed import Measured


def ratios(scenario: Scenario, peer: str, measured: Mapping[str, Measured]) -> dict[str, Figure]:
    """How many times as long the reference takes for a `picture` and an `evaluation`, a ratio for each round.

    `evaluation` is absent where one of both does not tell how long they take, or its own are not alike.
    """
    both = measured[scenario.reference].warm, measured[peer].warm
    starts = range(0, min(map(len, both)), scenario.warm)
    rounds = [[jobs[start : start + scenario.warm] for jobs in both] for start in starts]
    found = {"picture": Figure.of([_picture(theirs) / _picture(own) for theirs, own in rounds])}
    alike = scenario.peers[peer].evaluations_alike and all(one.evaluations for jobs in both for one in jobs)
    if alike:
        found["evaluation"] = Figure.of([_evaluation(theirs) / _evaluation(own) for theirs, own in rounds])
    return found


def _picture(jobs: Sequence[Generated]) -> float:
    return median(one.seconds for one in jobs)


def _evaluation(jobs: Sequence[Generated]) -> float:
    return median(seconds for one in jobs for seconds in one.evaluations or ())
