"""Pictures: the same for the same seed whatever the batch, and never a black one for a NaN."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.errors import ComputeError
from sdrt.request import resolve_request


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m_karras"])
def test_picture_does_not_depend_on_its_batch(pipeline, sampler):
    """Bit by bit: nine are a batch of eight and one more, and each is also made alone."""
    settings = {"steps": 3, "sampler": sampler, "width": 64, "height": 64}
    pictures = pipeline.generate("a red star", seed=7, count=9, **settings)
    assert [picture.request.seed for picture in pictures] == list(range(7, 16))
    for picture in pictures:
        (alone,) = pipeline.generate("a red star", seed=picture.request.seed, **settings)
        np.testing.assert_array_equal(picture.pixels, alone.pixels)
        assert picture.request == alone.request
        assert picture.texts == alone.texts


def test_settings_change_the_picture(pipeline):
    base = {"seed": 1, "steps": 4, "sampler": "ddim", "guidance_scale": 3.0, "spacing": "leading"}
    changes = (
        {},
        {"seed": 2},
        {"steps": 5},
        {"sampler": "euler"},
        {"guidance_scale": 1.0},
        {"negative_prompt": "blue"},
        {"spacing": "trailing"},
    )
    pictures = [pipeline.generate("a red star", **{**base, **change})[0].pixels for change in changes]
    pictures.append(pipeline.generate("a blue cross", **base)[0].pixels)
    assert len({pixels.tobytes() for pixels in pictures}) == len(pictures)


def test_requests_before_leave_no_trace(pipeline):
    first = pipeline.generate("a red star", seed=3, steps=3)[0].pixels
    pipeline.generate("another", seed=4, steps=2, width=96, height=72, sampler="euler", count=2)
    np.testing.assert_array_equal(pipeline.generate("a red star", seed=3, steps=3)[0].pixels, first)


@pytest.mark.parametrize("size", [(64, 64), (72, 128), (8, 16)])
def test_sizes(pipeline, size):
    width, height = size
    (picture,) = pipeline.generate("a cat", steps=1, width=width, height=height)
    assert picture.pixels.shape == (height, width, 3)
    assert picture.pixels.dtype == np.uint8


def test_guidance_of_one_ignores_the_negative_prompt(pipeline):
    settings = {"seed": 1, "steps": 2, "guidance_scale": 1.0}
    plain = pipeline.generate("a cat", **settings)[0].pixels
    np.testing.assert_array_equal(
        pipeline.generate("a cat", negative_prompt="blue", **settings)[0].pixels, plain
    )


def test_rows_of_the_network(pipeline, monkeypatch):
    """Guidance takes two rows for a picture, none takes one."""
    rows = []
    bind = pipeline._unet.bind

    def spy(buffers):
        rows.append(buffers["sample"].shape[0])
        bind(buffers)

    monkeypatch.setattr(pipeline._unet, "bind", spy)
    for guidance, count in ((1.0, 1), (3.0, 1), (1.0, 3), (3.0, 3)):
        pipeline.generate("a cat", steps=1, guidance_scale=guidance, count=count, width=64, height=64)
    assert rows == [1, 2, 3, 6]


def test_progress(pipeline):
    request = resolve_request(pipeline.manifest, "a cat", steps=2, count=9, width=64, height=64)
    seen = []
    pictures = pipeline.run(request, lambda at: seen.append((at.first, at.batch, at.done, at.evaluations)))
    next(pictures)
    assert seen == [(0, 8, 0, 2), (0, 8, 1, 2), (0, 8, 2, 2)]
    list(pictures)
    assert seen[3:] == [(8, 1, 0, 2), (8, 1, 1, 2), (8, 1, 2, 2)]


def test_seeds_wrap(pipeline):
    last, first = pipeline.generate("a cat", steps=1, seed=2**64 - 1, count=2)
    assert (last.request.seed, first.request.seed) == (2**64 - 1, 0)
    np.testing.assert_array_equal(first.pixels, pipeline.generate("a cat", steps=1, seed=0)[0].pixels)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("graph", "output"), [("_unet", "out_sample"), ("vae", "sample")])
def test_not_a_number_is_an_error_naming_the_graph(pipeline, monkeypatch, graph, output, value):
    backend = pipeline._unet if graph == "_unet" else pipeline._decoder._vae
    run, bind, bound = backend.run, backend.bind, {}

    def spy(buffers):
        bound.update(buffers)
        bind(buffers)

    def broken():
        run()
        bound[output].array.flat[5] = value

    monkeypatch.setattr(backend, "bind", spy)
    monkeypatch.setattr(backend, "run", broken)
    says = {
        "_unet": r"NaN or Inf: the unet graph gave it in evaluation 1 of 2 .* seed 7",
        "vae": r"the vae_decoder graph gave NaN or Inf for the picture with seed 7",
    }
    with pytest.raises(ComputeError, match=says[graph]):
        pipeline.generate("a cat", steps=2, seed=7)


def test_prompts_are_encoded_once(pipeline, monkeypatch):
    runs = []
    (encoder,) = pipeline._conditioner._encoders
    run = encoder._graph.run
    monkeypatch.setattr(encoder._graph, "run", lambda: runs.append(run()))
    for _ in range(2):
        pipeline.generate("a prompt that no other test has", negative_prompt="nor this", steps=1)
    assert len(runs) == 2
