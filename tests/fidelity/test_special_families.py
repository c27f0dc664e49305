"""Models that are told or shown more than a prompt: the picture of their own diffusers pipelines."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sdrt.bundle import DEMO
from sdrt.errors import InputError
from sdrt.pipeline import Pipeline

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from reference import open_pipeline, psnr, run, take_sampler  # noqa: E402

PROMPT, NEGATIVE = "a red circle on blue", "blurred"
# of pictures, in dB: what FP32 and FP16 bundles are held to
PRECISIONS = pytest.mark.parametrize(
    ("precision", "least"), [("fp32", 50.0), pytest.param("fp16", 35.0, marks=pytest.mark.slow)]
)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A drawing of 64 x 72 pixels."""
    rows, columns = np.mgrid[:72, :64]
    pixels = np.stack([3 * rows, 4 * columns, 128 + 60 * np.sin(rows / 5)], axis=-1).clip(0, 255)
    path = tmp_path_factory.mktemp("pictures") / "drawing.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def mask(tmp_path_factory):
    """White in a disc that keeps to no grid of 8."""
    rows, columns = np.mgrid[:72, :64]
    path = tmp_path_factory.mktemp("masks") / "mask.png"
    Image.fromarray(((rows - 31) ** 2 + (columns - 37) ** 2 < 400).astype(np.uint8) * 255).save(path)
    return path


def through_diffusers(pipeline_class, folder, **settings):
    return run(open_pipeline(folder, pipeline_class), PROMPT, **settings)


@pytest.mark.slow
@PRECISIONS
@pytest.mark.parametrize("guidance", [1.0, 8.5])
def test_guidance_is_told_to_a_distilled_model(precision, least, guidance, exported):
    folder, bundle = exported("lcm", precision)
    with Pipeline.load(bundle) as pipeline:
        assert pipeline.manifest.conditioning.guidance_embedding == 16
        (ours,) = pipeline.generate(PROMPT, steps=4, guidance_scale=guidance, seed=3, width=64, height=72)
        with pytest.raises(InputError, match="takes no negative prompt"):
            pipeline.generate(PROMPT, negative_prompt="blurred")
    theirs = through_diffusers(
        diffusers.LatentConsistencyModelPipeline,
        folder,
        num_inference_steps=4,
        guidance_scale=guidance,
        seed=3,
        width=64,
        height=72,
    )
    assert ours.pixels.std() > 5
    assert psnr(ours.pixels, theirs) >= least


@PRECISIONS
@pytest.mark.parametrize(
    ("guidance", "strength"), [pytest.param(1.0, 1.0, marks=pytest.mark.slow), (6.0, 1.0), (6.0, 0.6)]
)
def test_inpainting(precision, least, guidance, strength, exported, picture, mask):
    painted = np.asarray(Image.open(mask)) > 127
    folder, bundle = exported("sd1-inpainting", precision)
    with Pipeline.load(bundle) as pipeline:
        assert pipeline.manifest.conditioning.picture == "inpainting"
        ours = pipeline.generate(
            PROMPT,
            negative_prompt=NEGATIVE,
            init_image=picture,
            mask=mask,
            mask_blur=0.0,
            strength=strength,
            sampler="euler",
            steps=4,
            guidance_scale=guidance,
            seed=3,
            count=2,
        )
    reference = open_pipeline(folder, diffusers.StableDiffusionInpaintPipeline)
    for one in ours:
        take_sampler(reference, one.request)
        theirs = run(
            reference,
            PROMPT,
            image=Image.open(picture),
            mask_image=Image.open(mask),
            negative_prompt=NEGATIVE,
            num_inference_steps=4,
            guidance_scale=guidance,
            strength=strength,
            seed=one.request.seed,
            width=64,
            height=72,
        )
        # diffusers gives the rest as its VAE brings it back, we give it as it was
        assert psnr(one.pixels[painted], theirs[painted]) >= least
        np.testing.assert_array_equal(one.pixels[~painted], np.asarray(Image.open(picture))[~painted])


@PRECISIONS
@pytest.mark.parametrize(("guidance", "image_guidance"), [(1.0, 1.0), (6.0, 1.5), (6.0, 1.0), (4.0, 4.0)])
def test_instruct_pix2pix(precision, least, guidance, image_guidance, exported, picture):
    folder, bundle = exported("sd1-edit", precision)
    with Pipeline.load(bundle) as pipeline:
        (ours,) = pipeline.generate(
            PROMPT,
            negative_prompt=NEGATIVE,
            init_image=picture,
            steps=4,
            guidance_scale=guidance,
            image_guidance=image_guidance,
            seed=3,
        )
    theirs = through_diffusers(
        diffusers.StableDiffusionInstructPix2PixPipeline,
        folder,
        image=Image.open(picture),
        negative_prompt=NEGATIVE,
        num_inference_steps=4,
        guidance_scale=guidance,
        image_guidance_scale=image_guidance,
        seed=3,
    )
    assert ours.pixels.std() > 5
    assert psnr(ours.pixels, theirs) >= least


def test_and_keeps_to_the_picture_of_an_edit_model(exported, picture):
    """Where the negative prompt weighs nothing too: the picture's guidance starts from its row."""
    _, bundle = exported("sd1-edit")
    settings = {"negative_prompt": NEGATIVE, "init_image": picture, "steps": 4, "seed": 3}
    settings |= {"image_guidance": 1.5}
    halves = f"{PROMPT} :0.5 AND {PROMPT} :0.5"
    with Pipeline.load(bundle) as pipeline:
        for halved, whole in [(1.0, 1.000001), (6.0, 6.0)]:
            (joined,) = pipeline.generate(halves, guidance_scale=halved, **settings)
            (alone,) = pipeline.generate(PROMPT, guidance_scale=whole, **settings)
            assert psnr(joined.pixels, alone.pixels) >= 50.0
        (unguided,) = pipeline.generate(PROMPT, guidance_scale=1.0, **settings)
        (none,) = pipeline.generate(PROMPT, guidance_scale=0.0, **settings)
        (negative,) = pipeline.generate(PROMPT, guidance_scale=0.000001, **settings)
    assert psnr(unguided.pixels, alone.pixels) < 40.0
    assert psnr(none.pixels, negative.pixels) >= 50.0


@pytest.mark.slow
def test_and_joins_prompts_of_a_distilled_model(exported):
    _, bundle = exported("lcm")
    settings = {"steps": 2, "seed": 3, "guidance_scale": 8.5, "width": 64, "height": 64}
    with Pipeline.load(bundle) as pipeline:
        (alone,) = pipeline.generate(PROMPT, **settings)
        (joined,) = pipeline.generate(f"{PROMPT} :0.5 AND {PROMPT} :0.5", **settings)
        (other,) = pipeline.generate(f"{PROMPT} AND a blue square", **settings)
    np.testing.assert_array_equal(joined.pixels, alone.pixels)  # halves of a float add up to it
    assert not np.array_equal(other.pixels, alone.pixels)


def test_pictures_that_are_missing_or_not_wanted(exported, picture, mask, tmp_path):
    (tmp_path / "broken.png").write_bytes(picture.read_bytes()[:200])
    cases = [
        ("sd1-inpainting", {}, "--init-image and --mask"),
        ("sd1-inpainting", {"init_image": picture}, "--mask"),
        ("sd1-edit", {}, "--init-image"),
        ("sd1-edit", {"init_image": picture, "mask": mask}, "leave --mask out"),
        ("sd1-edit", {"init_image": tmp_path / "none.png"}, "there is no picture"),
        ("sd1-edit", {"init_image": tmp_path / "broken.png"}, "cannot read"),
        ("sd1-edit", {"init_image": picture, "image_guidance": float("nan")}, "image guidance is nan"),
        (None, {"mask": mask}, "give it with --init-image"),
        (None, {"image_guidance": 2.0}, "leave --image-guidance out"),
    ]
    for family, settings, words in cases:
        bundle = DEMO if family is None else exported(family)[1]
        with Pipeline.load(bundle) as pipeline, pytest.raises(InputError, match=words):
            pipeline.generate(PROMPT, steps=1, **settings)
