"""`sdrt bench tune`: what is measured, what counts as right, and what auto makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from bench_scenario import FakeSession
from click.testing import CliRunner

from sdrt import manifest as manifests
from sdrt.bundle import DEMO
from sdrt.choice import choose, installed
from sdrt.manifest import FILE_NAME
from sdrt_bench import tune
from sdrt_bench.cli import bench
from sdrt_bench.peers.process import PeerFailedError

LATENTS = np.zeros((2, 4, 8, 8))


def picture(level):
    return {"pixels": np.full((1, 64, 64, 3), level, np.uint8), "latents": LATENTS}


# seconds of a picture, and what is in it
BACKENDS = {
    "onnxruntime": {"seconds": 0.4, "made": picture(100)},
    "openvino:f32": {"seconds": 0.3, "made": picture(101)},  # 48 dB
    "openvino:bf16": {"seconds": 0.1, "made": picture(140)},  # 16 dB
}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tune, "candidates", lambda *_, **size: ([*BACKENDS], {"tensorrt": "no GPU"}))
    monkeypatch.setattr(tune, "PeerProcess", lambda start: FakeSession([], **BACKENDS[start.backend]))
    # whose versions count, whatever is installed here
    monkeypatch.setattr("sdrt.choice.installed", lambda backend: {"it": "1"})


def test_the_quickest_that_is_near_enough_is_taken():
    result = CliRunner().invoke(bench, ["--tune", "--steps", "2"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == [
        "openvino:bf16", "openvino:f32", "onnxruntime", "tensorrt",
    ]  # fmt: skip
    assert "not near enough" in lines[0] and "48.1 dB" in lines[1] and "the reference" in lines[2]
    assert "not measured: no GPU" in lines[3]
    assert lines[4].startswith("auto is openvino:f32, the quickest of 2 measured here at 64x64")
    manifest = manifests.read(DEMO / FILE_NAME)
    assert choose(DEMO, manifest, width=64, height=64).backend == "openvino:f32"


def test_the_gate_is_a_choice():
    result = CliRunner().invoke(bench, ["tune", "--least-psnr", "10"])
    assert "auto is openvino:bf16" in result.stdout


def test_a_backend_that_fails_is_told_and_not_taken(monkeypatch):
    broken = {**BACKENDS, "openvino:f32": {"error": PeerFailedError("it ended with exit code 139: -")}}
    monkeypatch.setattr(tune, "PeerProcess", lambda start: FakeSession([], **broken[start.backend]))
    result = CliRunner().invoke(bench, ["tune"])
    assert "failed: openvino:f32: it ended with exit code 139" in result.stderr
    assert "auto is onnxruntime" in result.stdout


def test_candidates_say_what_they_are(monkeypatch):
    monkeypatch.undo()
    manifest = manifests.read(DEMO / FILE_NAME)
    found, left_out = tune.candidates(DEMO, manifest, 64, 64)
    assert found[0] == "onnxruntime" and len(set(found)) == len(found)
    assert not set(found) & set(left_out)
    assert installed("onnxruntime")
