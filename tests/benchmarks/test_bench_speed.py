"""Rounds and scaling with peers that answer at once: who is asked what, and what becomes of the figures."""

from __future__ import annotations

import pytest
from bench_scenario import FakeSession, scenario

from sdrt_bench.peers.process import PeerAbsentError, PeerFailedError
from sdrt_bench.scenario import PeerSettings, ScalingSettings
from sdrt_bench.speed import Measured, Rounds, run_rounds, run_scaling


def quiet(_: str) -> None:
    pass


def test_peers_take_turns_and_the_first_picture_is_no_warm_one():
    opened, log = [], []

    def open_peer(name):
        opened.append(name)
        return FakeSession(log)

    rounds = run_rounds(scenario(), open_peer, quiet)
    assert opened == ["right", "ours", "right", "ours"]
    assert len(rounds.load_average) == 2
    prompts = [job.prompt for job in log[:4]]
    assert prompts[0] == "a red circle" and len(set(prompts)) == 4, "a remembered prompt would cost nothing"
    assert log[4] == "end"
    speed = rounds.measured["ours"].speed(batch=1)
    assert (speed.start.median, speed.load.median, speed.first.median) == (1.5, 0.5, 1.2)
    assert speed.picture.median == 0.2 and speed.picture.count == 6
    assert speed.evaluation.median == 0.03 and speed.evaluations == 2
    assert speed.rest.median == pytest.approx(0.2 - 0.01 - 0.02 - 2 * 0.03)
    assert speed.iterations_per_second.median == pytest.approx(2 / 0.17)
    assert speed.peak_mb == 104
    assert speed.device_mb is None


def test_memory_of_a_gpu_is_the_most_of_all_rounds():
    held = iter([900.0, 300.0, 800.0, 500.0])
    rounds = run_rounds(scenario(), lambda name: FakeSession([], device_mb=next(held)), quiet)
    assert rounds.measured["right"].speed(batch=1).device_mb == 900
    assert rounds.measured["ours"].speed(batch=1).device_mb == 500


def test_absent_and_failing_peers_are_listed_and_left_alone():
    opened, log = [], []

    def open_peer(name):
        opened.append(name)
        if name == "ours":
            raise PeerAbsentError("No module named 'ours'")
        return FakeSession(log, error=PeerFailedError("RuntimeError: no"))

    rounds = run_rounds(scenario(), open_peer, quiet)
    assert opened == ["right", "ours"]
    assert rounds.absent == {"ours": "No module named 'ours'"}
    assert rounds.failed == {"right": "RuntimeError: no"}
    assert rounds.measured == {}
    assert log[-1] == "end", "its process is ended"


def test_scaling_changes_one_thing_at_a_time():
    log = []
    asked = scenario(
        scaling=ScalingSettings(peers=("right", "ours"), batch=(1, 2), sizes=(96,), steps=(5,)),
    )
    rounds = Rounds(measured={"ours": Measured()})
    points = list(run_scaling(asked, rounds, lambda name: FakeSession(log), quiet))
    assert [(one.peer, one.axis, one.value) for one in points] == [
        ("ours", "batch", 1),
        ("ours", "batch", 2),
        ("ours", "sizes", 96),
        ("ours", "steps", 5),
    ]
    jobs = [job for job in log if job != "end"]
    assert len(jobs) == 16, "one run to warm up, three that count"
    assert {(job.batch, job.width, job.height, job.steps) for job in jobs} == {
        (1, 64, 64, 2),
        (2, 64, 64, 2),
        (1, 96, 96, 2),
        (1, 64, 64, 5),
    }


def test_what_a_peer_does_not_tell_is_not_made_up():
    says = {"ddim": {"text": None, "evaluations": None, "vae": None, "notes": ("its own noise levels",)}}
    rounds = run_rounds(scenario(), lambda name: FakeSession([], says=says), quiet)
    speed = rounds.measured["ours"].speed(batch=1)
    assert speed.picture.median == 0.2 and speed.pictures_per_second.median == 5
    assert (speed.text, speed.evaluation, speed.evaluations, speed.vae) == (None,) * 4
    assert (speed.rest, speed.iterations_per_second) == (None, None)
    assert list(rounds.measured["ours"].notes) == ["its own noise levels"], "each note once"
    assert rounds.versions["ours"] == {"torch": "2.13.0"}


def test_converting_happens_once_before_every_round_and_its_failure_ends_the_peer():
    log = []
    peers = {"right": PeerSettings(runner="diffusers"), "ov": PeerSettings(runner="openvino-genai")}
    rounds = run_rounds(scenario(peers=peers), lambda name: FakeSession(log), quiet)
    assert rounds.converted == {"ov": 7.0}
    assert log[:2] == ["convert", "end"] and log.count("convert") == 1

    def open_peer(name):
        if name == "ov":
            raise PeerAbsentError("No module named 'optimum'")
        return FakeSession([])

    rounds = run_rounds(scenario(peers=peers), open_peer, quiet)
    assert rounds.absent == {"ov": "No module named 'optimum'"}
    assert list(rounds.measured) == ["right"]


def test_a_peer_that_fails_at_scaling_loses_nothing_else():
    asked = scenario(scaling=ScalingSettings(peers=("right", "ours"), batch=(1,)))
    rounds = Rounds(measured={"right": Measured(), "ours": Measured()})

    def open_peer(name):
        return FakeSession([], error=PeerFailedError("out of memory") if name == "right" else None)

    assert [point.peer for point in run_scaling(asked, rounds, open_peer, quiet)] == ["ours"]
    assert rounds.failed == {"right": "out of memory"}
