"""Whole processes: who runs when, what is counted, and what is said when one fails."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from bench_scenario import scenario
from PIL import Image

from sdrt_bench import whole_process
from sdrt_bench.peers import PeerStart
from sdrt_bench.scenario import WholeProcessSettings

STARTS = {
    "ours": PeerStart(runner="sdrt", precision="fp32", backend="onnxruntime", model="/bundle"),
    "right": PeerStart(runner="diffusers", precision="fp32", backend="", model="/check'point"),
}


def asked(**changes):
    return scenario(whole_process=WholeProcessSettings(peer="ours", runs=2), **changes)


def quiet(_: str) -> None:
    pass


def test_the_two_take_turns_and_their_first_runs_are_not_counted(tmp_path, monkeypatch):
    seconds = iter([100.0, 900.0, 1.0, 8.0, 2.0, 12.0])
    ran = []

    def run(command, picture):
        ran.append(command[1:3])
        Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(picture)
        return next(seconds)

    monkeypatch.setattr(whole_process, "_run", run)
    found = whole_process.measure(asked(), STARTS, tmp_path, quiet)
    assert [words[0] for words in ran] == ["-m", "-c"] * 3
    assert (found.sdrt.least, found.sdrt.most, found.sdrt.count) == (1.0, 2.0, 2)
    assert found.diffusers.median == 10.0
    assert (found.ratio.least, found.ratio.most) == (6.0, 8.0), "of runs that followed each other"
    assert found.psnr is None and found.failed is None, "equal pictures"
    assert found.sdrt_command.startswith("sdrt generate -m BUNDLE --backend onnxruntime")
    assert "/check" not in found.diffusers_script and "'CHECKPOINT'" in found.diffusers_script


def test_the_script_is_python_whatever_the_prompt_and_the_path():
    prompt = 'a "red" circle\'s {edge}\n'
    job = whole_process.job_of(scenario(prompt=prompt, sampler="pndm"))
    script = whole_process.diffusers_script(job, "/check'point", "p.png")
    compile(script, "script", "exec")
    assert repr(prompt) in script and "skip_prk_steps=True" in script


@pytest.mark.parametrize(
    "code, said",
    [
        ("import sys; print('hm', file=sys.stderr); sys.exit('no such model')", "exit code 1: no such model"),
        ("pass", "exit code 0: it said nothing"),
    ],
)
def test_a_process_that_leaves_no_picture_is_no_figure(tmp_path, code, said):
    picture = tmp_path / "picture.png"
    picture.write_text("of an earlier run")
    with pytest.raises(whole_process.ProcessError, match=said):
        whole_process._run([sys.executable, "-c", code], picture)


def test_failure_and_unknown_samplers_are_reported(tmp_path, monkeypatch):
    def run(command, picture):
        raise whole_process.ProcessError(
            "whole-diffusers ended with exit code 1: No module named 'diffusers'"
        )

    monkeypatch.setattr(whole_process, "_run", run)
    found = whole_process.measure(asked(), STARTS, tmp_path, quiet)
    assert found.failed.endswith("No module named 'diffusers'") and found.sdrt is None
    assert "heun" in whole_process.measure(asked(sampler="heun"), STARTS, tmp_path, quiet).failed


def test_settings_of_the_peer_reach_the_command():
    start = PeerStart(
        runner="sdrt",
        precision="fp32",
        backend="b",
        model="m",
        guidance_interval=(0.0, 0.5),
        deep_cache=3,
    )
    words = whole_process.sdrt_words(whole_process.job_of(scenario()), start, "p.png")
    assert words[-7:] == ["--guidance-interval", "0.0", "0.5", "--deep-cache", "3", "--", "a red circle"]
