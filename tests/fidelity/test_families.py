"""Every family, exported and run: the picture that its diffusers pipeline makes with the same seed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from sdrt.pipeline import Pipeline

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

import tiny_models  # noqa: E402

# Stable Diffusion 1 is in test_against_diffusers.py. A width of 1024 makes the second one's name.
FAMILIES = {"sd2": "stable-diffusion-1", "sdxl": "stable-diffusion-xl"}
TURBO = {"sampler": "euler_a", "spacing": "trailing"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The checkpoint of a family and its bundle."""
    import sdrt_export

    @cache
    def export(family, precision="fp32"):
        folder = tmp_path_factory.mktemp(family) / "checkpoint"
        if not folder.exists():
            tiny_models.write(family, folder)
        bundle = folder.parent / f"bundle-{precision}"
        return folder, sdrt_export.export(str(folder), bundle, precision=precision)

    return export


def psnr(a, b):
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


def through_diffusers(folder, request, scheduler=None, **options):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, safety_checker=None)
    if scheduler is not None:
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **options)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt or None,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type="np",
    ).images
    return np.round(images[0] * 255).astype(np.uint8)


@pytest.mark.parametrize("negative", ["", "blurred"])
@pytest.mark.parametrize("family", FAMILIES)
def test_family_gives_diffusers_picture(family, negative, exported):
    folder, bundle = exported(family)
    with Pipeline.load(bundle) as pipeline:
        assert pipeline.manifest.family == FAMILIES[family]
        settings = {"width": 64, "height": 72, "steps": 4, "seed": 3, "guidance_scale": 4.0}
        (picture,) = pipeline.generate("a red circle, 漢字", negative_prompt=negative, **settings)
    assert picture.pixels.std() > 5
    assert psnr(picture.pixels, through_diffusers(folder, picture.request)) >= 50.0


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_turbo_without_guidance(family, steps, exported):
    """SD-Turbo and SDXL-Turbo are the same networks with Euler a at trailing timesteps."""
    folder, bundle = exported(family)
    settings = {"width": 64, "height": 64, "steps": steps, "seed": 1, "guidance_scale": 1.0, **TURBO}
    with Pipeline.load(bundle) as pipeline:
        (picture,) = pipeline.generate("a cat", **settings)
    scheduler = diffusers.EulerAncestralDiscreteScheduler
    theirs = through_diffusers(folder, picture.request, scheduler, timestep_spacing="trailing")
    assert psnr(picture.pixels, theirs) >= 50.0


@pytest.mark.slow
def test_refiner_is_told_an_aesthetic_score(exported):
    """diffusers has it for image to image only, so that its networks are compared and not its pictures."""
    _, bundle = exported("sdxl-refiner")
    with Pipeline.load(bundle) as pipeline:
        manifest = pipeline.manifest
        assert manifest.family == "stable-diffusion-xl-refiner"
        assert manifest.graphs["unet"].inputs["time_ids"].shape == (None, 5)
        assert [text.graph for text in manifest.text] == ["text_encoder_2"]
        assert max(trial.relative_l2 for graph in manifest.graphs.values() for trial in graph.fidelity) < 1e-5
        (picture,) = pipeline.generate("a cat", width=64, height=64, steps=2, seed=1)
    assert picture.pixels.std() > 5


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_family_in_fp16(family, exported):
    folder, bundle = exported(family, "fp16")
    with Pipeline.load(bundle) as pipeline:
        graphs = pipeline.manifest.graphs
        # the VAE of Stable Diffusion XL leaves the range of FP16
        assert graphs["vae_decoder"].outputs["sample"].dtype == ("float32" if family == "sdxl" else "float16")
        assert graphs["unet"].outputs["out_sample"].dtype == "float16"
        settings = {"width": 64, "height": 64, "steps": 4, "seed": 3, "guidance_scale": 4.0}
        (picture,) = pipeline.generate("a red circle", **settings)
    assert psnr(picture.pixels, through_diffusers(folder, picture.request)) >= 35.0
