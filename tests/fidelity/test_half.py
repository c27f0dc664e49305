"""An FP16 bundle's second decoder, in FP32: for pictures that the first one spoils."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.backends import open_runtime
from sdrt.bundle import Bundle
from sdrt.errors import ComputeError
from sdrt.pipeline import Pipeline

SETTINGS = {"steps": 2, "seed": 3, "count": 3}


@pytest.fixture
def spoilt(demo_bundle, monkeypatch):
    """A pipeline whose FP16 decoder gives infinity for the second picture; and its pictures without that."""
    with Pipeline.load(demo_bundle("fp16")) as pipeline:
        expected = [picture.pixels for picture in pipeline.generate("a cat", **SETTINGS)]
        decoder, bound = pipeline._decoder._vae, {}
        run, bind = decoder.run, decoder.bind

        def spy(buffers):
            bound.update(buffers)
            bind(buffers)

        def overflow():
            run()
            bound["sample"].array[1] = np.inf

        monkeypatch.setattr(decoder, "bind", spy)
        monkeypatch.setattr(decoder, "run", overflow)
        yield pipeline, expected


def test_spoilt_picture_is_decoded_in_float32(spoilt):
    """It alone: the others of its batch stay what they are."""
    pipeline, expected = spoilt
    pictures = [picture.pixels for picture in pipeline.generate("a cat", **SETTINGS)]
    for index in (0, 2):
        np.testing.assert_array_equal(pictures[index], expected[index])
    assert pictures[1].std() > 5
    difference = np.abs(pictures[1].astype(int) - expected[1])
    assert difference.max() <= 3  # latents that were not rounded to FP16


def test_bundle_without_it(spoilt):
    pipeline, _ = spoilt
    pipeline._decoder._make_precise = None
    with pytest.raises(ComputeError, match=r"vae_decoder graph gave NaN or Inf .* with seed 4; try"):
        pipeline.generate("a cat", **SETTINGS)


def test_decoder_in_float32(demo_bundle):
    bundle = Bundle.open(demo_bundle("fp16"))
    graphs = bundle.manifest.graphs
    entry = graphs["vae_decoder_fp32"]
    assert {spec.dtype for spec in (*entry.inputs.values(), *entry.outputs.values())} == {"float32"}
    assert all(trial.relative_l2 < 1e-5 for trial in entry.fidelity)
    assert len(entry.fidelity) == 2
    # graphs of one folder share their weights, and are not the same
    assert (bundle.path / entry.path).stat().st_size < 500_000
    assert bundle.manifest.digest_of(entry) != bundle.manifest.digest_of(graphs["vae_decoder"])
    graph = open_runtime("onnxruntime").load(bundle.path / entry.path)
    assert (dict(graph.inputs), dict(graph.outputs)) == (dict(entry.inputs), dict(entry.outputs))
