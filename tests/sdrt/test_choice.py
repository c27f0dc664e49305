"""`--backend auto`: the quickest that was found right here, and only as long as that holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from sdrt import choice, this_machine
from sdrt import manifest as manifests
from sdrt.bundle import DEMO
from sdrt.choice import Trial, Tuning, choose
from sdrt.errors import MissingExtraError
from sdrt.manifest import FILE_NAME
from sdrt.pipeline import Pipeline

FAST, RIGHT = "openvino:bf16", "onnxruntime"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def manifest():
    return manifests.read(DEMO / FILE_NAME)


@pytest.fixture
def everything(monkeypatch):
    """Every library is installed, in version 1."""
    monkeypatch.setattr(choice, "installed", lambda backend: {"it": "1"})
    monkeypatch.setattr(choice, "find_spec", lambda package: package)


def trial(backend, seconds, **changes):
    fields = {"backend": backend, "versions": {"it": "1"}, "seconds": seconds, "psnr": 50.0, "right": True}
    return Trial(**{**fields, **changes})


def tuning(manifest, *trials, **changes):
    fields = {
        "machine": choice.machine_digest(),
        "graphs": choice.graphs_digest(manifest),
        "width": 64,
        "height": 64,
        "date": "2026-11-21",
        "reference": RIGHT,
        "trials": trials,
    }
    return Tuning(**{**fields, **changes})


def chosen(manifest, *, bundle=DEMO, width=64, height=64):
    return choose(bundle, manifest, width=width, height=height)


def test_the_quickest_right_one(manifest, everything):
    trials = (trial("openvino:f32", 0.1, right=False), trial(RIGHT, 0.3, psnr=None), trial(FAST, 0.2))
    choice.remember(tuning(manifest, *trials))
    found = chosen(manifest)
    assert found.backend == FAST
    assert "0.2 s a picture, 50.0 dB from onnxruntime's; onnxruntime 0.3 s" in found.why


@pytest.mark.parametrize(
    "changes", [{"machine": "another"}, {"graphs": "others"}, {"trials": (trial(FAST, 0.1, right=False),)}]
)
def test_what_counts_for_nothing(manifest, everything, changes):
    choice.remember(tuning(manifest, **{"trials": (trial(FAST, 0.1),), **changes}))
    assert chosen(manifest).backend == RIGHT
    assert "nothing was measured" in chosen(manifest).why


def test_another_version_of_a_library(manifest, everything, monkeypatch):
    choice.remember(tuning(manifest, trial(FAST, 0.1), trial(RIGHT, 0.2)))
    monkeypatch.setattr(choice, "installed", lambda backend: {"it": "1" if backend == RIGHT else "2"})
    assert chosen(manifest).backend == RIGHT


def test_the_nearest_size(manifest, everything):
    choice.remember(tuning(manifest, trial(FAST, 0.1)))
    choice.remember(tuning(manifest, trial(RIGHT, 0.1), width=512, height=512))
    assert chosen(manifest, width=96, height=96).backend == FAST
    assert chosen(manifest, width=640, height=448).backend == RIGHT


def test_measured_again(manifest, everything):
    choice.remember(tuning(manifest, trial(FAST, 0.1)))
    choice.remember(tuning(manifest, trial(RIGHT, 0.1)))
    assert chosen(manifest).backend == RIGHT
    assert len(choice.read()) == 1


def test_engines_that_are_gone(manifest, everything):
    choice.remember(tuning(manifest, trial("aoti:cpu", 0.1), trial(RIGHT, 0.2)))
    assert chosen(manifest).backend == RIGHT


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"machine": 1}]', b"\xff"])
def test_damaged_figures(manifest, content):
    choice.remember(tuning(manifest, trial(FAST, 0.1)))
    (Path(choice.cache_folder()) / "choices.json").write_bytes(content)
    assert "nothing was measured" in chosen(manifest).why


def test_order_without_figures(manifest, everything, monkeypatch):
    assert chosen(manifest).backend == "onnxruntime"
    monkeypatch.setattr(choice, "find_spec", lambda package: package if package == "openvino" else None)
    assert chosen(manifest).backend == "openvino:f32", "bfloat16 is no precision to take unasked"
    monkeypatch.setattr(choice, "find_spec", lambda package: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sdrt\[cpu\]'"):
        chosen(manifest)


def test_gpu_without_figures(manifest, everything, monkeypatch):
    monkeypatch.setattr(this_machine, "gpus", lambda: ("NVIDIA H100",))
    monkeypatch.setattr(choice, "installed", lambda backend: {"onnxruntime-gpu": "1"})
    assert chosen(manifest).backend == "onnxruntime:cuda"


def test_auto_of_a_pipeline_is_what_was_chosen(manifest, tmp_path, monkeypatch):
    bundle = Path(shutil.copytree(DEMO, tmp_path / "demo"))
    choice.remember(
        tuning(manifest, trial("aoti:cpu", 0.1), trial(RIGHT, 0.2, versions=choice.installed(RIGHT)))
    )
    with Pipeline.load(bundle) as pipeline:
        assert pipeline.runtime.name == RIGHT


def test_what_is_kept_is_json_for_people(manifest):
    path = choice.remember(tuning(manifest, trial(FAST, 0.1)))
    assert msgspec.json.decode(path.read_bytes())[0]["trials"][0]["backend"] == FAST
    assert path.read_bytes().count(b"\n") > 10
