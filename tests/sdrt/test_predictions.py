"""What a run says of the picture it is on the way to, and that nobody who looks changes it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sdrt.backends.onnxruntime import Runtime
from sdrt.errors import InputError
from sdrt.pipeline import Pipeline
from sdrt.request import resolve_request
from sdrt.samplers import SAMPLERS, NoiseSchedule, compile_sampler

PROMPT = "a large red circle on a blue background"


@pytest.fixture(scope="module")
def pipeline():
    with Pipeline.load(backend="onnxruntime") as pipeline:
        yield pipeline


def psnr(ours, theirs):
    return 10 * np.log10(255**2 / max(np.mean((np.float64(ours) - theirs) ** 2), 1e-9))


# what a network that knows x_0 and the noise in x = alpha * x_0 + sigma * noise answers
ANSWERS = {
    "epsilon": lambda x_0, noise, alpha, sigma: noise,
    "v_prediction": lambda x_0, noise, alpha, sigma: (
        (alpha * noise - sigma * x_0) / np.hypot(alpha, sigma)  # of unit variance, as it sees x
    ),
    "sample": lambda x_0, noise, alpha, sigma: x_0,
    "flow": lambda x_0, noise, alpha, sigma: noise - x_0,
}


@pytest.mark.parametrize(
    ("name", "prediction"), [(name, said) for name, one in SAMPLERS.items() for said in one.predictions]
)
def test_the_table_knows_what_the_network_means(name, prediction):
    table = compile_sampler(name, NoiseSchedule(prediction_type=prediction), 12)
    x_0, noise = np.random.default_rng(0).normal(size=(2, table.evaluations))
    x = table.alphas * x_0 + table.sigmas * noise
    m = ANSWERS[prediction](x_0, noise, table.alphas, table.sigmas)
    told = table.denoised[:, 0] * x + table.denoised[:, 1] * m
    # noise is up to 200 times as loud as x_0, and both are of size 1: rounding of float64
    np.testing.assert_allclose(told, x_0, rtol=0, atol=1e-11)


# These end without noise, where x is x_0: one level of 255 here and there. The demo model's DDIM ends at its
# least noise level, with 3 % of noise in the latents (set_alpha_to_one is false).
@pytest.mark.parametrize(
    ("sampler", "least"), [("dpmpp_2m", 50), ("heun", 50), ("euler_a", 50), ("ddim", 32)]
)
def test_looking_changes_nothing_and_the_last_look_is_the_picture(pipeline, sampler, least):
    request = resolve_request(pipeline.manifest, PROMPT, seed=3, count=2, steps=8, sampler=sampler)
    expected = [picture.pixels for picture in pipeline.run(request)]
    looks = []

    def look(at):
        at.previews()
        looks.append(at.predictions())

    watched = [picture.pixels for picture in pipeline.run(request, look)]
    np.testing.assert_array_equal(watched, expected)
    assert looks[0] == []
    assert [len(look) for look in looks[1:]] == [2] * (len(looks) - 1)
    for b, pixels in enumerate(expected):
        distances = [psnr(look[b], pixels) for look in looks[1:]]
        assert distances[-1] > least
        assert distances[0] < 30
        assert distances[-2] > distances[0]


def test_with_deep_features_and_guidance_that_ends(pipeline):
    """Phases have other rows, and buffers of their own."""
    settings = {"seed": 1, "steps": 6, "guidance_interval": (0.2, 0.6), "sampler": "ddim"}
    request = resolve_request(pipeline.manifest, PROMPT, **settings)
    looks = []
    (picture,) = pipeline.run(request, lambda at: looks.append(at.predictions()))
    np.testing.assert_array_equal(picture.pixels, next(pipeline.run(request)).pixels)
    assert psnr(looks[-1][0], picture.pixels) > 50


def test_what_a_mask_keeps_is_in_every_prediction(pipeline, tmp_path):
    source = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 40:] = 255
    Image.fromarray(source).save(tmp_path / "source.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    given = {"init_image": tmp_path / "source.png", "mask": tmp_path / "mask.png", "mask_blur": 0.0}
    request = resolve_request(pipeline.manifest, PROMPT, seed=1, steps=4, **given)
    looks = []
    (picture,) = pipeline.run(request, lambda at: looks.extend(at.predictions()))
    assert len(looks) == 4
    for look in looks:
        np.testing.assert_array_equal(look[:, :40], source[:, :40])
    np.testing.assert_array_equal(looks[-1], picture.pixels)
    assert (looks[0][:, 40:] != picture.pixels[:, 40:]).any()


def test_previews_show_what_is_there(pipeline):
    """The map of the demo's VAE is coarse: 12 dB from pictures that are 9 dB from their mean."""
    prompts = (
        PROMPT,
        "small green star on the left, white background",
        "a purple cross on yellow",
        "an orange square at the top, black background",
        "a red circle and a blue square on white",
    )
    looks, pictures = [], []
    for prompt in prompts:
        request = resolve_request(pipeline.manifest, prompt, seed=1)
        pictures += pipeline.run(request, lambda at: looks.append(at.previews()))
    shown = np.stack([look[0] for look in looks if look][request.steps - 1 :: request.steps])
    cells = np.stack([one.pixels.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)) for one in pictures])
    assert shown.shape == cells.shape
    assert psnr(shown, cells) > psnr(cells.mean((0, 1, 2)), cells) + 2


def test_predictions_that_are_gone(pipeline):
    request = resolve_request(pipeline.manifest, PROMPT, seed=1, steps=3)
    seen = []
    list(pipeline.run(request, seen.append))
    for look in (seen[1].predictions, seen[2].previews):
        with pytest.raises(
            InputError, match=r"predictions of evaluation . are gone, .* while on_step is called"
        ):
            look()


def test_bundle_without_a_map_to_rgb(bundle, edit_manifest):
    edit_manifest(lambda fields: fields["vae"].pop("latent_rgb"))
    with Pipeline.load(bundle, backend="onnxruntime") as pipeline:
        request = resolve_request(pipeline.manifest, PROMPT, seed=1, steps=2)
        looks = []
        list(pipeline.run(request, lambda at: looks.append(at.predictions())))
        assert len(looks[-1]) == 1
        with pytest.raises(
            InputError, match=r"has no map from latents to RGB; export it again, or .*--decoded"
        ):
            list(pipeline.run(request, lambda at: at.previews()))


def test_nothing_is_loaded_for_those_who_do_not_look(monkeypatch):
    loaded, load = [], Runtime.load

    def counting(self, graph, **options):
        loaded.append(graph.name)
        return load(self, graph, **options)

    monkeypatch.setattr(Runtime, "load", counting)
    with Pipeline.load(backend="onnxruntime") as pipeline:
        request = resolve_request(pipeline.manifest, PROMPT, seed=1, steps=2, count=2)
        list(pipeline.run(request, lambda at: None))
        before = list(loaded)
        assert before.count("step.fp32.onnx") == 2
        for _ in range(2):
            list(pipeline.run(request, lambda at: at.predictions() and at.previews()))
        assert loaded == [*before, "step.fp32.onnx"]
