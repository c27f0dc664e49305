"""A VAE that leaves the range of FP16: found by running it, and kept in FP32 where it does.

onnxruntime drops FP16's roundings on CPUs, so that what a graph gives in FP16 is asked of onnx's own
evaluator, which computes in numpy, operator by operator.
"""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from diffusers import AutoencoderKL
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from sdrt_export import aoti_precision, graphs, half_range
from sdrt_export.float32 import WIDE, half_values, widen, write_float32
from sdrt_export.half_range import LARGEST, MARGIN, keep_in_range, trial_inputs
from sdrt_export.sources import open_model
from sdrt_export.specs import graph_specs
from sdrt_export.tensorrt_lint import lint

# the residual stream of one block, behind which the network's last norm makes numbers small again
LOUD = "decoder.up_blocks.3.resnets.0.conv2.weight"
LATENTS = np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float16)


@pytest.fixture(scope="module")
def written(tiny, tmp_path_factory):
    """The FP16 graph of the tiny VAE's decoder, and inputs for a trial."""
    folder = tmp_path_factory.mktemp("decoder")
    checkpoint = open_model(str(tiny))
    spec = next(one for one in graph_specs(checkpoint.configs) if one.name == "vae_decoder")
    model, weights = checkpoint.build("vae"), checkpoint.weights("vae")
    inputs = trial_inputs(spec, model, weights, checkpoint.configs.vae_settings)
    graphs.write_graph(spec, model, weights, folder, precision="fp16", opset=23, half_weights=False)
    return folder, inputs


@pytest.fixture
def quiet(written, tmp_path):
    return shutil.copytree(written[0], tmp_path / "quiet") / graphs.FILE_NAME


@pytest.fixture
def loud(written, tmp_path):
    """The same with one weight so large that activations leave the range; the weight itself does not."""
    path = shutil.copytree(written[0], tmp_path / "loud") / graphs.FILE_NAME
    model = onnx.load(path)
    (weight,) = [one for one in model.graph.initializer if one.name == LOUD]
    larger = (numpy_helper.to_array(weight).astype(np.float32) * 2e5).astype(np.float16)
    assert np.isfinite(larger).all()
    weight.CopyFrom(numpy_helper.from_array(larger, LOUD))
    (path.parent / graphs.DATA_NAME).unlink()
    onnx.save(model, path, save_as_external_data=True, location=graphs.DATA_NAME)
    return path


def in_half(path):
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(str(path)).run(None, {"latent_sample": LATENTS})[0]


def in_float32(path):
    target = path.with_name("full.onnx")
    write_float32(path, target)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    return session.run(None, {"latent_sample": LATENTS.astype(np.float32)})[0]


def convolutions(path):
    """How many compute in FP16, and in FP32."""
    model = onnx.load(path, load_external_data=False)
    half = half_values(model)
    all_of_them = [node for node in model.graph.node if node.op_type == "Conv"]
    count = sum(node.input[0] in half for node in all_of_them)
    return count, len(all_of_them) - count


def test_vae_within_the_range_stays_as_it_is(written, quiet):
    before = quiet.read_bytes()
    kept = keep_in_range(quiet, written[1])
    assert kept.nodes == 0
    assert 0 < kept.largest < LARGEST / MARGIN
    assert quiet.read_bytes() == before
    assert convolutions(quiet)[1] == 0
    assert sorted(file.name for file in quiet.parent.iterdir()) == [graphs.FILE_NAME, graphs.DATA_NAME]


def test_only_the_nodes_that_need_it_are_float32(written, loud):
    assert not np.isfinite(in_half(loud)).all()
    expected = in_float32(loud)
    assert np.isfinite(expected).all()
    kept = keep_in_range(loud, written[1])
    assert kept.largest > LARGEST
    assert 0 < kept.nodes < kept.all_nodes / 10
    half, full = convolutions(loud)
    assert 0 < full < half / 4
    made = in_half(loud)
    assert made.dtype == np.float16
    # that of all FP16 graphs; 4e-3 was seen
    assert np.linalg.norm(made - expected) / np.linalg.norm(expected) < 1e-2
    onnx.checker.check_model(str(loud))
    assert lint(loud) == []


def test_the_same_layers_of_a_module_are_float32(written, loud, tiny):
    """Engines of AOTInductor are made of the module, not of the graph."""
    keep_in_range(loud, written[1])
    wide = aoti_precision.wide_parameters(loud)
    assert LOUD in wide
    assert not any("up_blocks.0." in name for name in wide)
    vae = AutoencoderKL.from_pretrained(tiny / "vae").half().eval()
    vae.decoder.up_blocks[3].resnets[0].conv2.weight.data *= 2e5
    latents = torch.from_numpy(LATENTS)
    with torch.no_grad():
        assert not vae.decode(latents).sample.isfinite().all()
        aoti_precision.keep_in_range(vae, wide.__contains__)
        made = vae.decode(latents).sample.float().numpy()
    expected = in_float32(loud)
    assert np.linalg.norm(made - expected) / np.linalg.norm(expected) < 1e-2


def test_margin(written, quiet, monkeypatch):
    """Numbers within the range but near its end count too, for other pictures go farther."""
    largest = keep_in_range(quiet, written[1]).largest
    monkeypatch.setattr(half_range, "MARGIN", LARGEST / largest * 1.01)
    assert keep_in_range(quiet, written[1]).nodes > 0


@pytest.mark.parametrize("which", ["quiet", "loud"])
def test_all_in_float32_with_the_same_weights(which, written, request):
    path = request.getfixturevalue(which)
    keep_in_range(path, written[1])
    target = path.with_name(graphs.FLOAT32_NAME)
    write_float32(path, target)
    model = onnx.load(target, load_external_data=False)
    assert half_values(model) == {
        one.name for one in model.graph.initializer if one.data_type == TensorProto.FLOAT16
    }
    edges = (*model.graph.input, *model.graph.output)
    assert {one.type.tensor_type.elem_type for one in edges} == {TensorProto.FLOAT}
    onnx.checker.check_model(str(target))
    assert lint(target) == []
    assert target.stat().st_size < 200_000


def test_widening_again_changes_nothing(written, loud):
    keep_in_range(loud, written[1])
    model = onnx.load(loud, load_external_data=False)
    widen(model)
    once = [node.output[0] for node in model.graph.node]
    assert len(set(once)) == len(once)
    widen(model)
    assert [node.output[0] for node in model.graph.node] == once
    assert not any(WIDE + WIDE in name for name in once)


def test_trial_pictures_reach_black_and_white():
    pictures = half_range._pictures(64)
    assert pictures.shape == (2, 3, 64, 64)
    assert (pictures.min(), pictures.max()) == (-1, 1)
