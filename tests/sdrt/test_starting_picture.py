"""Runs that begin with a picture: image to image, inpainting, outpainting; blends and variations."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sdrt.errors import InputError, UnknownNameError
from sdrt.noise import NoiseGenerator, slerp
from sdrt.pipeline import Pipeline
from sdrt.request import resolve_request

PROMPT = "a green circle on a blue background"


@pytest.fixture(scope="module")
def pipeline():
    with Pipeline.load(backend="onnxruntime") as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def drawing(tmp_path_factory):
    """A red disc on blue with a little noise, so that no pixel comes back by chance."""
    rows, columns = np.mgrid[:64, :64]
    disc = ((rows - 30) ** 2 + (columns - 27) ** 2 < 200)[..., None]
    noise = np.random.default_rng(0).integers(-15, 16, (64, 64, 3))
    path = tmp_path_factory.mktemp("pictures") / "drawing.png"
    Image.fromarray((np.where(disc, (220, 30, 30), (30, 60, 220)) + noise).astype(np.uint8)).save(path)
    return path


def pixels_of(path):
    return np.asarray(Image.open(path))


def test_what_a_mask_leaves_out_stays_to_the_pixel(pipeline, drawing, tmp_path):
    """A hundred masks of discs and bars, of every blur and strength, all in one run."""
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[:64, :64]
    requests, masks = [], []
    for i in range(100):
        x, y, size = rng.integers(4, 60), rng.integers(4, 60), rng.integers(9, 30)
        disc = (rows - y) ** 2 + (columns - x) ** 2 < size**2
        bar = (abs(rows - y) < size // 2) & (columns > x - size)
        mask = disc if i % 2 else bar
        path = tmp_path / f"{i}.png"
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(path)
        blur = float(rng.choice([0, 1, 2, 4]))
        settings = {"strength": float(rng.uniform(0.5, 1)), "mask_blur": blur, "steps": 2, "seed": i}
        requests.append(resolve_request(pipeline.manifest, PROMPT, init_image=drawing, mask=path, **settings))
        far = ~near(mask, int(3 * blur))
        masks.append((mask, far))
    kept = changed = 0
    for picture, (mask, far) in zip(pipeline.run(requests), masks, strict=True):
        np.testing.assert_array_equal(picture.pixels[far], pixels_of(drawing)[far])
        kept += far.sum()
        changed += (picture.pixels[mask] != pixels_of(drawing)[mask]).any(-1).sum()
    assert kept > 100 * 1000
    assert changed > 100 * 100


def near(mask, reach):
    """Pixels at most `reach` from the mask along both axes."""
    padded = np.pad(mask, reach)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1))
    return windows.any(axis=(2, 3))


def test_more_strength_leaves_less(pipeline, drawing):
    distances = []
    for strength in (0.1, 0.4, 0.7, 1.0):
        (picture,) = pipeline.generate(
            "a yellow star on black", init_image=drawing, strength=strength, seed=2
        )
        distances.append(np.abs(picture.pixels.astype(float) - pixels_of(drawing)).mean())
    assert distances == sorted(distances)
    assert distances[0] < 45 < 60 < distances[-1]


def test_start_step_says_the_same_as_strength(pipeline, drawing):
    (one,) = pipeline.generate(PROMPT, init_image=drawing, steps=10, strength=0.4, seed=1)
    (other,) = pipeline.generate(PROMPT, init_image=drawing, steps=10, start_step=6, seed=1)
    assert one.request == other.request
    assert one.request.strength == pytest.approx(0.4)
    np.testing.assert_array_equal(one.pixels, other.pixels)


def test_a_picture_does_not_depend_on_its_batch(pipeline, drawing, tmp_path):
    """Not when beside it others are painted from noise, from the picture, or within a mask."""
    mask = tmp_path / "mask.png"
    Image.fromarray(np.where(np.mgrid[:64, :64][0] > 30, 255, 0).astype(np.uint8)).save(mask)
    settings = [
        {"seed": 1},
        {"init_image": drawing, "strength": 0.5, "seed": 2, "steps": 12},
        {"init_image": drawing, "mask": mask, "seed": 3, "steps": 6, "sampler": "euler_a"},
        {"init_image": drawing, "mask": mask, "strength": 0.9, "seed": 4, "steps": 7},
    ]
    requests = [resolve_request(pipeline.manifest, PROMPT, **{"steps": 6, **one}) for one in settings]
    together = list(pipeline.run(requests))
    for request, picture in zip(requests, together, strict=True):
        (alone,) = pipeline.run(request)
        np.testing.assert_array_equal(picture.pixels, alone.pixels)


def test_a_hole_is_a_mask(pipeline, drawing, tmp_path):
    mask = np.zeros((64, 64), bool)
    mask[16:48, 24:64] = True
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(tmp_path / "mask.png")
    holed = np.dstack([pixels_of(drawing), np.where(mask, 0, 255)]).astype(np.uint8)
    Image.fromarray(holed).save(tmp_path / "holed.png")
    settings = {"seed": 1, "steps": 4, "mask_blur": 0.0}
    (picture,) = pipeline.generate(PROMPT, init_image=tmp_path / "holed.png", **settings)
    assert picture.request.start_step == 0
    np.testing.assert_array_equal(picture.pixels[~mask], pixels_of(drawing)[~mask])
    (flat,) = pipeline.generate(PROMPT, init_image=tmp_path / "holed.png", alpha="flatten", **settings)
    assert flat.request.start_step == 1
    assert (flat.pixels[~mask] != pixels_of(drawing)[~mask]).any()


def test_outpainting_keeps_the_picture(pipeline, drawing):
    settings = {"outpaint": (16, 0, 8, 0), "mask_blur": 0.0, "steps": 4, "seed": 1}
    (picture,) = pipeline.generate(PROMPT, init_image=drawing, **settings)
    assert picture.pixels.shape == (64, 88, 3)
    np.testing.assert_array_equal(picture.pixels[:, 16:80], pixels_of(drawing))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, (64, 64)),
        ({"width": 96}, (96, 96)),
        ({"height": 32}, (32, 32)),
        ({"width": 96, "height": 64}, (96, 64)),
        ({"outpaint": 8}, (80, 80)),
        ({"outpaint": (8, 0, 0, 0), "width": 72}, (72, 64)),
    ],
)
def test_sizes(pipeline, drawing, settings, said):
    request = resolve_request(pipeline.manifest, PROMPT, init_image=drawing, **settings)
    assert (request.width, request.height) == said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strength": 0.5}, "--strength is for a picture"),
        ({"start_step": 99}, "start step is 99; expected 0 to 14 of 15 steps"),
        ({"outpaint": 8}, "--outpaint is for a picture"),
        ({"init_image": True, "strength": float("nan")}, "strength is nan"),
        ({"init_image": True, "strength": 1.5}, "strength is 1.5; expected 0 to 1"),
        ({"init_image": True, "strength": 0.01}, "no step; take 0.067"),
        ({"init_image": True, "strength": 0.5, "start_step": 2}, "leave one out"),
        ({"init_image": True, "start_step": 15}, "expected 0 to 14 of 15 steps"),
        ({"init_image": True, "start_step": -1}, "expected 0 to 14"),
        ({"init_image": True, "mask_blur": -1.0}, "mask blur is -1"),
        ({"init_image": True, "mask_blur": float("inf")}, "mask blur is inf"),
        (
            {"init_image": True, "outpaint": 12},
            "outpaint left is 12, not a multiple of 8; the nearest are 8 and 16",
        ),
        ({"init_image": True, "outpaint": -8}, "expected pixels: left, top, right, bottom"),
        ({"init_image": True, "outpaint": 32, "width": 64}, "leaves no room"),
        ({"init_image": True, "image_guidance": 2.0}, "leave --image-guidance out"),
        ({"blend": [("a", 1.0), ("b", -1.0)]}, "add up to 0"),
        ({"blend": [("a", float("nan"))]}, "add up to nan"),
        ({"variation_strength": 0.5}, "give --variation-seed"),
        ({"variation_seed": 1}, "variation strength is None"),
        ({"variation_seed": 1, "variation_strength": float("nan")}, "variation strength is nan"),
        ({"variation_seed": -1, "variation_strength": 0.5}, "variation seed is -1"),
    ],
)
def test_what_is_refused(pipeline, drawing, settings, words):
    settings = {**settings, **({"init_image": drawing} if "init_image" in settings else {})}
    with pytest.raises(InputError, match=words):
        resolve_request(pipeline.manifest, "" if "blend" in settings else PROMPT, **settings)


def test_a_large_photo_is_to_be_scaled(pipeline, tmp_path):
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (4000, 3000)).save(photo)
    with pytest.raises(InputError, match=r"4000x3000 is 12000000 pixels.*scale the picture with -W or -H"):
        resolve_request(pipeline.manifest, PROMPT, init_image=photo)
    request = resolve_request(pipeline.manifest, PROMPT, init_image=photo, width=128)
    assert (request.width, request.height) == (128, 96)


def test_unknown_fit_and_alpha(pipeline, drawing):
    for settings in ({"fit": "corp"}, {"alpha": "whole"}):
        with pytest.raises(UnknownNameError, match="did you mean"):
            resolve_request(pipeline.manifest, PROMPT, init_image=drawing, **settings)


def test_a_prompt_and_a_blend_are_refused(pipeline):
    with pytest.raises(InputError, match="exclude each other"):
        resolve_request(pipeline.manifest, PROMPT, blend=[("a star", 1.0)])


def test_a_mask_that_paints_nothing(pipeline, drawing, tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[9:15, 9:15] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="nothing would be painted"):
        pipeline.generate(PROMPT, init_image=drawing, mask=tmp_path / "mask.png", seed=1)


# ---------------------------------------------------------------- blends and variations


def test_a_blend_of_one_is_the_prompt(pipeline):
    (plain,) = pipeline.generate(PROMPT, seed=1, steps=4)
    for blend in ([(PROMPT, 3.0)], [(PROMPT, 1.0), ("a black star", 0.0)]):
        (blended,) = pipeline.generate("", blend=blend, seed=1, steps=4)
        np.testing.assert_array_equal(blended.pixels, plain.pixels)


def test_a_blend_is_between_its_prompts(pipeline):
    ends = ["a large red circle on a white background", "a large blue circle on a white background"]
    means = []
    for share in (0.0, 0.5, 1.0):
        (picture,) = pipeline.generate("", blend=[(ends[0], 1 - share), (ends[1], share)], seed=1)
        means.append(picture.pixels[28:36, 28:36].mean((0, 1)))
    red, between, blue = means
    assert red[0] > 180 > 90 > red[2]
    assert blue[2] > 180 > 90 > blue[0]
    assert np.abs(between - red).max() > 20
    assert np.abs(between - blue).max() > 20


def test_blended_prompts_may_be_long_and_change(pipeline):
    blend = [("a red circle " * 40, 1.0), ("[a star:a ring:0.5]", 2.0)]
    (picture,) = pipeline.generate("", blend=blend, seed=1, steps=4)
    assert picture.pixels.std() > 5


def test_variations(pipeline):
    pictures = {}
    for strength in (0.0, 0.1, 1.0):
        settings = {"variation_seed": 9, "variation_strength": strength, "sampler": "ddim"}
        (pictures[strength],) = pipeline.generate(PROMPT, seed=1, steps=4, **settings)
    (first,) = pipeline.generate(PROMPT, seed=1, steps=4, sampler="ddim")
    (last,) = pipeline.generate(PROMPT, seed=9, steps=4, sampler="ddim")
    np.testing.assert_array_equal(pictures[0.0].pixels, first.pixels)
    assert np.abs(pictures[1.0].pixels.astype(int) - last.pixels).max() <= 1
    assert np.abs(pictures[0.1].pixels.astype(int) - first.pixels).mean() > 0


def test_slerp_stays_noise():
    one, other = (NoiseGenerator(seed).randn((4, 64, 64)) for seed in (1, 2))
    halfway = slerp(one, other, 0.5)
    assert halfway.std() == pytest.approx(1.0, abs=0.02)  # a straight line would give 0.71
    cosines = [
        np.vdot(halfway, end) / (np.linalg.norm(halfway) * np.linalg.norm(end)) for end in (one, other)
    ]
    assert cosines[0] == pytest.approx(cosines[1], abs=0.02)
    np.testing.assert_array_equal(slerp(one, one, 0.3), one)
