"""The committed checkpoint: its size and layout, its autoencoder, and what its pictures show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from sdrt_export.demo.drawing import draw
from sdrt_export.demo.generators import DEFAULTS_FILE, Settings, from_pipeline, load_pipeline
from sdrt_export.demo.score import CHECKPOINT
from sdrt_export.demo.scoring import Scores, held_out_prompts, score
from sdrt_export.demo.train_vae import decode, encode


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    return load_pipeline(CHECKPOINT)


def scored(pipe: StableDiffusionPipeline, one: int, sides: int, two: int) -> Scores:
    return score(from_pipeline(pipe, Settings.of(CHECKPOINT)), held_out_prompts(one, sides, two))


def test_the_checkpoint_is_small_and_in_float16() -> None:
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 9.8e6
    parameters = 0
    for path in CHECKPOINT.glob("*/*.safetensors"):
        with safe_open(path, framework="numpy") as tensors:
            values = [tensors.get_tensor(name) for name in tensors.keys()]  # noqa: SIM118
        assert {value.dtype for value in values if value.dtype.kind == "f"} == {np.dtype(np.float16)}
        parameters += sum(value.size for value in values)
    assert parameters <= 4.6e6


def test_the_text_encoder_is_named_as_published_ones_are() -> None:
    """Releases of transformers that look for the prefix go on with random weights where it is not."""
    with safe_open(CHECKPOINT / "text_encoder/model.safetensors", framework="numpy") as tensors:
        assert all(name.startswith("text_model.") for name in tensors.keys())  # noqa: SIM118


def test_the_configuration_is_that_of_stable_diffusion() -> None:
    scheduler = json.loads((CHECKPOINT / "scheduler/scheduler_config.json").read_text())
    assert scheduler["_class_name"] == "DDIMScheduler"
    assert (scheduler["beta_schedule"], scheduler["beta_start"], scheduler["beta_end"]) == (
        "scaled_linear",
        0.00085,
        0.012,
    )
    assert scheduler["prediction_type"] == "v_prediction"
    assert scheduler["steps_offset"] == 1
    assert not scheduler["set_alpha_to_one"] and not scheduler["clip_sample"]
    defaults = json.loads((CHECKPOINT / DEFAULTS_FILE).read_text())
    assert set(defaults) == {"width", "height", "steps", "guidance_scale", "sampler"}


@pytest.mark.parametrize("file", sorted(CHECKPOINT.rglob("*.json")), ids=lambda path: path.name)
def test_no_file_names_a_folder_of_the_training_machine(file: Path) -> None:
    assert not {"_name_or_path", "name_or_path"} & set(json.loads(file.read_text()))


def test_the_autoencoder_keeps_every_drawing_what_it_is(pipe: StableDiffusionPipeline) -> None:
    prompts = held_out_prompts(one=60, sides=20, two=40)
    pictures = np.stack([draw(prompt.scene, np.random.default_rng(prompt.seed)) for prompt in prompts])
    decoded = decode(pipe.vae, encode(pipe.vae, pictures))
    scores = score(lambda _: decoded, prompts)
    assert scores.colour == scores.background == scores.shape == scores.position == 1.0
    assert scores.all_of_two >= 0.95


def test_a_few_pictures_show_what_they_should(pipe: StableDiffusionPipeline) -> None:
    scores = scored(pipe, one=24, sides=12, two=12)
    # The shares of the full score stand in the model card; these bounds leave room for 48 pictures' chance.
    assert scores.colour_shape_background >= 0.85
    assert scores.side >= 0.85
    assert scores.two_colours >= 0.7


@pytest.mark.slow
def test_the_targets_are_met(pipe: StableDiffusionPipeline) -> None:
    scores = scored(pipe, one=200, sides=100, two=100)
    assert scores.colour >= 0.95
    assert scores.background >= 0.98
    assert scores.shape >= 0.92
    assert scores.colour_shape_background >= 0.88
    assert scores.side >= 0.80
    assert scores.two_colours >= 0.60
