"""From one prompt to another: frames, their files and their sheet."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from sdrt.cli import cli
from sdrt.errors import InputError
from sdrt.many.interpolation import ask_frames
from sdrt.pipeline import Pipeline

RED, BLUE = "a large red circle on a white background", "a large blue circle on a white background"


def pixels_of(path):
    return np.asarray(Image.open(path).convert("RGB"))


def test_frames_go_from_one_prompt_and_seed_to_the_other(tmp_path):
    arguments = ["generate", "--interpolate", RED, BLUE, "--frames", "5", "--seed", "1", "--steps", "6"]
    arguments += ["--variation-seed", "2", "--backend", "onnxruntime", "--grid", str(tmp_path / "strip.png")]
    arguments += ["--grid-columns", "5", "-o", str(tmp_path / "f-{frame}.png")]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    frames = [pixels_of(tmp_path / f"f-{number}.png") for number in range(1, 6)]
    with Pipeline.load(backend="onnxruntime") as pipeline:
        (first,) = pipeline.generate(RED, seed=1, steps=6)
        (last,) = pipeline.generate(BLUE, seed=2, steps=6)
    np.testing.assert_array_equal(frames[0], first.pixels)
    assert np.abs(frames[-1].astype(int) - last.pixels).max() <= 1  # cos of a right angle is 6e-17
    blue = [frame[28:36, 28:36, 2].mean() - frame[28:36, 28:36, 0].mean() for frame in frames]
    assert blue[0] < -100 < 100 < blue[-1]
    assert blue[0] < blue[2] < blue[-1]
    strip = pixels_of(tmp_path / "strip.png")
    assert strip.shape[1] > 4 * strip.shape[0]


@pytest.mark.parametrize(
    ("frames", "settings", "words"),
    [
        (1, {}, "frames is 1; expected 2 or more"),
        (101, {}, "frames is 101, the limit is 100"),
        (4, {"prompt": "a cat"}, "leave PROMPT and --blend out"),
        (4, {"blend": (("a", 1.0),)}, "leave PROMPT and --blend out"),
        (4, {"count": 2}, "leave --count out"),
        (4, {"variation_seed": 1, "variation_strength": 0.5}, "leave --variation-strength out"),
    ],
)
def test_what_is_refused(frames, settings, words):
    with pytest.raises(InputError, match=words):
        ask_frames(RED, BLUE, frames, settings)


def test_all_frames_have_one_seed():
    seeds = {one.settings["seed"] for one in ask_frames(RED, BLUE, 8, {"seed": -1})}
    assert len(seeds) == 1
    assert min(seeds) >= 0
