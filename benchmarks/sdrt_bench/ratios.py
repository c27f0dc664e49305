"""How many times as quick as the reference: by rounds, since what ran side by side met the same machine."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from sdrt_bench.peers import Generated
from sdrt_bench.report import Figure


def ratios(warm: Sequence[Generated], reference: Sequence[Generated], per_round: int) -> dict[str, Figure]:
    """How many times as long the reference takes for a `picture` and an `evaluation`.

    warm, reference: all jobs of both, `per_round` of them from each round. Each round gives the ratio of its
    medians. `evaluation` is absent where one of both does not tell how long they take.
    """
    rounds = [
        (reference[start : start + per_round], warm[start : start + per_round])
        for start in range(0, len(warm), per_round)
    ]
    found = {
        "picture": Figure.of(
            [
                median(one.seconds for one in theirs) / median(one.seconds for one in own)
                for theirs, own in rounds
            ]
        )
    }
    if all(one.evaluations for one in (*warm, *reference)):
        found["evaluation"] = Figure.of([_evaluation(theirs) / _evaluation(own) for theirs, own in rounds])
    return found


def _evaluation(jobs: Sequence[Generated]) -> float:
    return median(seconds for one in jobs for seconds in one.evaluations or ())
