"""The same prompt, seed, sampler and steps through diffusers on the same checkpoint: the same picture."""

from __future__ import annotations

import json

import pytest

from sdrt.pipeline import Pipeline

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from reference import SCHEDULERS, open_pipeline, picture, psnr, take_sampler  # noqa: E402

PROMPTS = [
    "a large red circle on a blue background",
    "small green star on the left, white background",
    "a purple cross",
    "picture of a big yellow triangle on black",
    "a white ring on the right on a purple background",
    "an orange square at the top, green background",
    "a red circle and a blue square on white",
    "black triangle on yellow",
    "",
    "something the model has never seen: 漢字 and 🎨",
]
NEGATIVE = "a small black cross"


@pytest.fixture(scope="module")
def reference(demo_checkpoint):
    return open_pipeline(demo_checkpoint)


@pytest.fixture(scope="module")
def pipeline(demo_bundle):
    return Pipeline.load(demo_bundle("fp32"))


def reference_pixels(pipeline, request, **options):
    take_sampler(pipeline, request)
    return picture(pipeline, request, eta=request.eta or 0.0, **options)


@pytest.mark.parametrize(("precision", "least"), [("fp32", 50.0), ("fp16", 35.0)])
def test_pictures_equal_diffusers(precision, least, demo_bundle, reference, record_property):
    pipeline = Pipeline.load(demo_bundle(precision))
    samplers = list(SCHEDULERS)[:3]
    found = {}
    for i, prompt in enumerate(PROMPTS):
        settings = {"sampler": samplers[i % 3], "negative_prompt": NEGATIVE if i % 2 else "", "seed": i}
        (picture,) = pipeline.generate(prompt, **settings)
        found[prompt] = psnr(picture.pixels, reference_pixels(reference, picture.request))
    record_property("psnr", json.dumps(found))
    assert min(found.values()) >= least, found


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (72, 104)])
def test_other_sizes_equal_diffusers(size, demo_bundle, reference):
    pipeline = Pipeline.load(demo_bundle("fp32"))
    (picture,) = pipeline.generate("a red star", width=size[0], height=size[1], seed=2)
    assert picture.pixels.shape == (size[1], size[0], 3)
    assert psnr(picture.pixels, reference_pixels(reference, picture.request)) >= 50.0


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        *((name, {}) for name in list(SCHEDULERS)[3:]),
        ("ddim", {"eta": 0.5}),
        ("dpmpp_2m", {"sigma_schedule": "karras"}),
        ("dpmpp_2m_sde", {"sigma_schedule": "karras"}),
        ("heun", {"sigma_schedule": "exponential"}),
        ("unipc", {"sigma_schedule": "beta"}),
        ("dpmpp_2m", {"spacing": "trailing"}),
    ],
)
def test_every_sampler_gives_diffusers_picture(sampler, options, pipeline, reference):
    """Also those that draw noise on the way: the stream of a seed is torch's."""
    prompt = "a red circle and a blue square on white"
    (picture,) = pipeline.generate(prompt, sampler=sampler, steps=6, seed=5, **options)
    assert psnr(picture.pixels, reference_pixels(reference, picture.request)) >= 50.0


@pytest.mark.parametrize("last", [0.3, 0.5])
def test_guidance_for_some_steps(last, pipeline, reference):
    """As diffusers' callback for dynamic guidance does it: from a step on, the prompt's row alone."""
    settings = {"sampler": "euler", "steps": 10, "seed": 6, "guidance_scale": 4.0, "width": 64, "height": 64}
    prompt = "a large red circle on a blue background"
    (ours,) = pipeline.generate(prompt, guidance_interval=(0.0, last), **settings)
    (guided,) = pipeline.generate(prompt, **settings)
    calls = []

    def stop_guiding(theirs, step, _, tensors):
        calls.append(step)
        if step + 1 == round(last * 10):
            theirs._guidance_scale = 1.0
            tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[-1]
        return tensors

    request = ours.request
    pixels = reference_pixels(
        reference,
        request,
        callback_on_step_end=stop_guiding,
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
    )
    assert len(calls) == 10
    assert psnr(ours.pixels, pixels) >= 50.0
    assert psnr(ours.pixels, guided.pixels) < 40.0
