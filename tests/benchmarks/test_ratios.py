"""Ratios hold on a machine that changes its speed between rounds."""

from __future__ import annotations

import pytest
from bench_scenario import scenario

from sdrt_bench.peers import Generated
from sdrt_bench.ratios import ratios
from sdrt_bench.scenario import PeerSettings
from sdrt_bench.speed import Measured


def jobs(*seconds):
    return Measured(
        warm=[Generated(seconds=one, text=0, vae=0, evaluations=(one / 4, one / 4)) for one in seconds]
    )


def test_slow_round_slows_both():
    measured = {"right": jobs(2, 2, 2, 20, 20, 20), "ours": jobs(1, 1, 1, 10, 10, 10)}
    found = ratios(scenario(), "ours", measured)
    assert found["picture"].least == found["picture"].most == 2
    assert found["evaluation"].median == 2 and found["evaluation"].count == 2


def test_hiccup_within_a_round_is_left_out():
    measured = {"right": jobs(3, 3, 3, 3, 3, 3), "ours": jobs(1, 1, 90, 1, 1, 1)}
    assert ratios(scenario(), "ours", measured)["picture"].most == 3


@pytest.mark.parametrize("interval", [(0.0, 0.5), None])
def test_evaluations_of_two_kinds_have_no_ratio(interval):
    settings = {
        "right": PeerSettings(runner="diffusers"),
        "ours": PeerSettings(runner="sdrt", guidance_interval=interval),
    }
    found = ratios(scenario(peers=settings), "ours", {"right": jobs(2, 2, 2), "ours": jobs(1, 1, 1)})
    assert set(found) == ({"picture"} if interval else {"picture", "evaluation"})
