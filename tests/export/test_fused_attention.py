"""Graphs with onnxruntime's own attention: the same answers, from the same weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from sdrt import manifest as manifests
from sdrt.bundle import DEMO
from sdrt_export.fused_attention import write_fused

GRAPHS = manifests.read(DEMO / manifests.FILE_NAME).graphs


def operators(path) -> list[str]:
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


@pytest.mark.parametrize("name", ["unet", "vae_decoder", "vae_encoder"])
def test_every_attention_is_fused_and_nothing_is_left_of_it(name):
    entry = GRAPHS[name]
    standard, fused = operators(DEMO / entry.path), operators(DEMO / entry.onnxruntime)
    assert "Attention" not in fused and "MultiHeadAttention" not in standard
    assert fused.count("MultiHeadAttention") == standard.count("Attention") > 0
    # three splits of heads and one merge for each
    assert standard.count("Transpose") - fused.count("Transpose") == 4 * standard.count("Attention")


def test_text_encoders_have_masks_and_stay_as_they_are():
    assert GRAPHS["text_encoder"].onnxruntime is None


@pytest.mark.parametrize("name", ["unet", "vae_decoder", "vae_encoder"])
def test_weights_are_shared(name):
    def weights(path):
        graph = onnx.load(path, load_external_data=False).graph
        large = [one for one in graph.initializer if one.data_location == TensorProto.EXTERNAL]
        return {one.name: [(entry.key, entry.value) for entry in one.external_data] for one in large}

    entry = GRAPHS[name]
    assert weights(DEMO / entry.onnxruntime) == weights(DEMO / entry.path) != {}


def attention(path, *, mask=False, causal=0, order=(0, 2, 1, 3), heads=2, width=6):
    """Attention over [B, L, heads * D] as torch.onnx writes it; width is D."""
    weight = helper.make_tensor("shape.heads", TensorProto.INT64, [1], [heads])
    made = [
        helper.make_node("Shape", ["q"], ["rows"], start=0, end=1),
        helper.make_node("Constant", [], ["any"], value_ints=[-1]),
        helper.make_node("Constant", [], ["width"], value_ints=[width]),
        helper.make_node("Constant", [], ["merged"], value_ints=[0, 0, heads * width]),
        helper.make_node("Concat", ["rows", "any", "shape.heads", "width"], ["split"], axis=0),
    ]
    for name in "qkv":
        made.append(helper.make_node("Reshape", [name, "split"], [f"{name}.split"], allowzero=1))
        made.append(helper.make_node("Transpose", [f"{name}.split"], [f"{name}.heads"], perm=order))
    inputs = ["q.heads", "k.heads", "v.heads", *(["mask"] if mask else [])]
    made.append(helper.make_node("Attention", inputs, ["answer"], is_causal=causal, scale=0.3))
    made.append(helper.make_node("Transpose", ["answer"], ["answer.split"], perm=order))
    made.append(helper.make_node("Reshape", ["answer.split", "merged"], ["merged.heads"]))
    made.append(helper.make_node("Neg", ["merged.heads"], ["y"]))
    given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["B", n, heads * width]) for n in "qkv"]
    if mask:
        given.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["q", "k"]))
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", "q", heads * width])
    graph = helper.make_graph(made, "attention", given, [result], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), path)


def test_answers_are_the_same(tmp_path):
    """To float32's rounding: sums are taken in another order."""
    attention(tmp_path / "model.onnx")
    assert write_fused(tmp_path / "model.onnx", tmp_path / "fused.onnx")
    assert sorted(operators(tmp_path / "fused.onnx")) == ["MultiHeadAttention", "Neg"]
    generator = np.random.default_rng(0)
    feeds = {
        n: generator.normal(size=(2, size, 12)).astype("f")
        for n, size in zip("qkv", (70, 33, 33), strict=True)
    }
    expected, found = (
        onnxruntime.InferenceSession(tmp_path / name).run(None, feeds)[0]
        for name in ("model.onnx", "fused.onnx")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("changes", [{"mask": True}, {"causal": 1}, {"order": (0, 1, 2, 3)}])
def test_what_the_operator_cannot_do_is_left(tmp_path, changes):
    attention(tmp_path / "model.onnx", **changes)
    assert not write_fused(tmp_path / "model.onnx", tmp_path / "fused.onnx")
    assert not (tmp_path / "fused.onnx").exists()
