"""The bundle inside the package: it is what exporting the committed checkpoint gives, small, and right."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from sdrt import manifest as manifests
from sdrt.bundle import DEMO
from sdrt.pipeline import Pipeline

BUDGET = 20e6  # bytes of checkpoint and bundle together: what a clone has to carry


def size_of(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def without_latent_rgb(vae):
    return msgspec.structs.replace(vae, latent_rgb=None)


def test_it_is_what_exporting_the_checkpoint_gives(tmp_path):
    sdrt_export = pytest.importorskip("sdrt_export")
    pytest.importorskip("torch")
    exported = sdrt_export.export("demo", tmp_path / "demo", half_weights=True)
    packaged, fresh = (manifests.read(folder / manifests.FILE_NAME) for folder in (DEMO, exported))
    # byte for byte; the figures measured at export differ with the processor and are not compared
    assert packaged.files == fresh.files
    for field in ("family", "precision", "text", "schedule", "defaults"):
        assert getattr(packaged, field) == getattr(fresh, field), field
    assert without_latent_rgb(packaged.vae) == without_latent_rgb(fresh.vae)
    shipped, fitted = packaged.vae.latent_rgb, fresh.vae.latent_rgb
    # of numbers up to 3, fitted to latents that differ by 1e-5 between processors
    np.testing.assert_allclose(shipped.factors, fitted.factors, rtol=0, atol=1e-3)
    np.testing.assert_allclose(shipped.bias, fitted.bias, rtol=0, atol=1e-3)


def test_checkpoint_and_bundle_are_small(demo_checkpoint):
    assert size_of(demo_checkpoint) + size_of(DEMO) <= BUDGET


def test_defaults_are_those_of_the_checkpoint(demo_checkpoint):
    said = json.loads((demo_checkpoint / "sdrt_defaults.json").read_text())
    defaults = manifests.read(DEMO / manifests.FILE_NAME).defaults
    assert {name: getattr(defaults, name) for name in said} == said


@pytest.mark.parametrize(
    ("prompt", "object_channel", "background_channel"),
    [
        ("a large red circle on a blue background", 0, 2),
        ("big blue square, red background", 2, 0),
        ("picture of a large green circle on blue", 1, 2),
    ],
)
def test_pictures_show_what_the_prompt_says(prompt, object_channel, background_channel):
    (picture,) = Pipeline.load().generate(prompt, seed=1)
    height, width, _ = picture.pixels.shape
    middle = picture.pixels[height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4].mean((0, 1))
    corner = picture.pixels[:4, :4].mean((0, 1))
    assert int(np.argmax(middle)) == object_channel
    assert int(np.argmax(corner)) == background_channel


def test_two_prompts_joined_by_and_show_both_things():
    composition = pytest.importorskip("sdrt_export.demo.composition")
    with Pipeline.load() as pipeline:
        assert composition.score_joined(pipeline, [composition.RED_AND_BLUE], seeds=50) >= 0.8


def test_a_drawing_keeps_its_place_and_takes_the_colour_that_is_asked_for():
    composition = pytest.importorskip("sdrt_export.demo.composition")
    with Pipeline.load() as pipeline:
        assert composition.score_recoloured(pipeline, composition.recolourings(), 0.6) >= 0.8
