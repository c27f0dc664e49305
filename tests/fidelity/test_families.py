"""Every family, exported and run: the picture that its diffusers pipeline makes with the same seed."""

from __future__ import annotations

import json

import pytest

from sdrt.pipeline import Pipeline

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from reference import open_pipeline, picture, psnr  # noqa: E402

# Stable Diffusion 1 is in test_against_diffusers.py. A width of 1024 makes the second one's name.
FAMILIES = {"sd2": "stable-diffusion-1", "sdxl": "stable-diffusion-xl"}
TURBO = {"sampler": "euler_a", "spacing": "trailing"}


def through_diffusers(folder, request, scheduler=None, **options):
    pipeline = open_pipeline(folder)
    if scheduler is not None:
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **options)
    return picture(pipeline, request)


@pytest.mark.parametrize("negative", ["", "blurred"])
@pytest.mark.parametrize("family", FAMILIES)
def test_family_gives_diffusers_picture(family, negative, exported):
    folder, bundle = exported(family)
    with Pipeline.load(bundle) as pipeline:
        assert pipeline.manifest.family == FAMILIES[family]
        settings = {"width": 64, "height": 72, "steps": 4, "seed": 3, "guidance_scale": 4.0}
        (ours,) = pipeline.generate("a red circle, 漢字", negative_prompt=negative, **settings)
    assert ours.pixels.std() > 5
    assert psnr(ours.pixels, through_diffusers(folder, ours.request)) >= 50.0


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_turbo_without_guidance(family, steps, exported):
    """SD-Turbo and SDXL-Turbo are the same networks with Euler a at trailing timesteps."""
    folder, bundle = exported(family)
    settings = {"width": 64, "height": 64, "steps": steps, "seed": 1, "guidance_scale": 1.0, **TURBO}
    with Pipeline.load(bundle) as pipeline:
        (ours,) = pipeline.generate("a cat", **settings)
    scheduler = diffusers.EulerAncestralDiscreteScheduler
    theirs = through_diffusers(folder, ours.request, scheduler, timestep_spacing="trailing")
    assert psnr(ours.pixels, theirs) >= 50.0


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
        # for optimum, whose pipeline would otherwise tell six numbers
        index = json.loads((bundle / "model_index.json").read_text())
        assert index["_class_name"] == "StableDiffusionXLImg2ImgPipeline"
        assert index["requires_aesthetics_score"] is True
        (ours,) = pipeline.generate("a cat", width=64, height=64, steps=2, seed=1)
    assert ours.pixels.std() > 5


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_family_in_fp16(family, exported):
    folder, bundle = exported(family, "fp16")
    with Pipeline.load(bundle) as pipeline:
        graphs = pipeline.manifest.graphs
        assert graphs["vae_decoder"].outputs["sample"].dtype == "float16"
        assert graphs["vae_decoder_fp32"].outputs["sample"].dtype == "float32"
        assert graphs["unet"].outputs["out_sample"].dtype == "float16"
        settings = {"width": 64, "height": 64, "steps": 4, "seed": 3, "guidance_scale": 4.0}
        (ours,) = pipeline.generate("a red circle", **settings)
    assert psnr(ours.pixels, through_diffusers(folder, ours.request)) >= 35.0
