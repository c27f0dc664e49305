"""`sdrt bench` as its user runs it, and a peer's process when things go wrong."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from sdrt.cli import cli
from sdrt.errors import SdrtError, UnknownNameError
from sdrt_bench import report as reports
from sdrt_bench.peers import Job, PeerStart
from sdrt_bench.peers.process import PeerAbsentError, PeerFailedError, PeerProcess

SCENARIO = """
title = "short"
source = "demo"
prompt = "a red circle"
width = 64
height = 64
steps = 2
sampler = "ddim"
guidance_scale = 2.0
rounds = 1
warm = 1
reference = "diffusers"

[peers.diffusers]
runner = "diffusers"

[peers.ours]
runner = "sdrt"
bundle = "demo"
least_psnr = {floor}

[peers.half]
runner = "sdrt"
bundle = "demo"
guidance_interval = [0.0, 0.5]

[peers.absent]
runner = "stable-diffusion-cpp"

[fidelity]
prompts = ["a red circle"]
scored = 2

[scaling]
peers = ["ours"]
batch = [1, 2]
"""


def bench(*arguments: str):
    return CliRunner().invoke(cli, ["bench", *arguments], standalone_mode=False)


def written(tmp_path, floor):
    (tmp_path / "short.toml").write_text(SCENARIO.format(floor=floor))
    return str(tmp_path / "short.toml")


def test_from_scenario_to_report(tmp_path):
    result = bench(written(tmp_path, 50.0), "-o", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    found = reports.read(tmp_path / "out/report.json")
    assert "absent: absent: No module named 'stable_diffusion_cpp'" in result.output
    assert found.command == f"sdrt bench {tmp_path}/short.toml"
    assert found.machine["packages"]["onnxruntime"]
    ours, theirs, half = (found.peers[name] for name in ("ours", "diffusers", "half"))
    assert half.quality.least_psnr < ours.quality.least_psnr and ours.missed == ()
    assert theirs.quality.least_psnr == float("inf"), "it is compared with itself"
    assert len(ours.quality.divergence["ddim"]) == 2
    assert set(ours.quality.scores) == {"colour", "background", "shape", "colour_shape_background"}
    for peer in (ours, theirs, half):
        speed = peer.speed
        assert speed.evaluations == 2
        parts = speed.text.median + 2 * speed.evaluation.least + speed.vae.median
        assert 0 < parts < speed.picture.median
        assert min(speed.start.median, speed.load.median, speed.first.median, speed.peak_mb) > 0
    assert ours.of_peak > 0 and half.of_peak is None
    assert ours.graphs["unet"].relative_l2 > 0 and not theirs.graphs
    assert found.peers["absent"].absent == "No module named 'stable_diffusion_cpp'"
    assert [(one.peer, one.axis, one.value) for one in found.scaling] == [
        ("ours", "batch", 1),
        ("ours", "batch", 2),
    ]
    assert found.work["unet"].operations > found.work["text_encoder"].operations > 0


def test_missed_gate_ends_with_1(tmp_path):
    less_guided = "guidance_interval = [0.0, 0.5]"
    text = SCENARIO.format(floor=50.0).replace(less_guided, f"{less_guided}\nleast_psnr = 60.0")
    (tmp_path / "short.toml").write_text(text)
    result = bench(str(tmp_path / "short.toml"), "--peer", "half", "-o", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "missed: half: PSNR" in result.output
    assert json.loads((tmp_path / "out/report.json").read_text())["peers"]["half"]["missed"]


def test_without_its_reference_nothing_is_compared(tmp_path):
    text = SCENARIO.format(floor=50.0).replace('reference = "diffusers"', 'reference = "absent"')
    (tmp_path / "short.toml").write_text(text)
    result = bench(str(tmp_path / "short.toml"), "--peer", "absent", "-o", str(tmp_path / "out"))
    assert isinstance(result.exception, SdrtError)
    assert "the reference absent cannot be run: No module named 'stable_diffusion_cpp'" in str(
        result.exception
    )


def test_unknown_scenario():
    result = bench("demmo")
    assert isinstance(result.exception, UnknownNameError)


def start(**changes) -> PeerStart:
    settings = {"runner": "sdrt", "precision": "fp32", "backend": "onnxruntime", "model": "nowhere"}
    return PeerStart(**{**settings, **changes})


def test_peer_that_is_not_installed():
    with pytest.raises(PeerAbsentError, match="No module named 'stable_diffusion_cpp'"):
        PeerProcess(start(runner="stable-diffusion-cpp"))


def test_peer_whose_model_is_not_there():
    with PeerProcess(start()) as peer, pytest.raises(PeerFailedError, match="there is no bundle at"):
        peer.load()


def test_peer_that_ends_by_itself(tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\necho killed for its memory >&2\nexit 137\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(PeerFailedError, match="exit code 137: killed for its memory"):
        PeerProcess(start(), str(tmp_path / "python"))


def test_job_that_fails_is_told():
    job = Job(prompt="", seed=0, width=63, height=64, steps=1, sampler="ddim", guidance_scale=1.0)
    with PeerProcess(start(model=str(reports.Path(__file__).parents[2] / "sdrt/demo"))) as peer:
        peer.load()
        with pytest.raises(PeerFailedError, match="InputError: width is 63"):
            peer.generate(job)
