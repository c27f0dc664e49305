"""Bundles in optimum's ONNX pipelines: the picture that sdrt makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.bundle import DEMO
from sdrt.pipeline import Pipeline

torch = pytest.importorskip("torch")
optimum = pytest.importorskip("optimum.onnxruntime")


@pytest.mark.parametrize("negative", ["", "blurred"])
@pytest.mark.parametrize("pipeline_class", ["ORTDiffusionPipeline", "ORTStableDiffusionPipeline"])
def test_packaged_bundle_gives_the_same_picture(pipeline_class, negative):
    settings = {"width": 64, "height": 72, "guidance_scale": 4.0}
    prompt = "a large red circle on a blue background"
    with Pipeline.load(DEMO) as pipeline:
        options = {"steps": 6, "seed": 3, "sampler": "ddim", "negative_prompt": negative}
        (ours,) = pipeline.generate(prompt, **settings, **options)
    theirs = getattr(optimum, pipeline_class).from_pretrained(DEMO)
    theirs.set_progress_bar_config(disable=True)
    image = theirs(
        prompt,
        negative_prompt=negative or None,
        num_inference_steps=6,
        generator=torch.Generator("cpu").manual_seed(3),
        output_type="np",
        **settings,
    ).images[0]
    error = np.mean((np.round(image * 255) - ours.pixels.astype(float)) ** 2)
    assert ours.pixels.std() > 5
    assert error <= 255**2 / 10**5.0  # 50 dB, as against diffusers itself
