"""Weights are found where an ONNX file says they lie, and nowhere else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sdrt.bundle import DEMO
from sdrt.errors import BundleError
from sdrt.onnx_initializers import read_initializers


def external(name="w", *, dims=(2, 3), dtype=TensorProto.FLOAT, **fields) -> TensorProto:
    tensor = TensorProto(name=name, dims=dims, data_type=dtype, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "m.data", **fields}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def write(folder, *tensors, data=b""):
    graph = helper.make_graph([], "g", [], [], list(tensors))
    (folder / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    (folder / "m.data").write_bytes(data)
    return folder / "m.onnx"


@pytest.mark.parametrize("graph", ["text_encoder", "unet", "vae_decoder"])
def test_they_are_those_that_onnx_reads(graph):
    path = DEMO / graph / "model.onnx"
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16}
    tensors = onnx.load(path).graph.initializer
    theirs = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors if tensor.data_type in floats}
    ours = read_initializers(path)
    assert set(ours) == set(theirs)
    assert {one.external for one in ours.values()} == {True, False}
    for name, array in theirs.items():
        found = ours[name].read()
        assert (found.dtype, found.shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(found, array)


def test_a_tensor_at_an_offset(tmp_path):
    values = np.arange(6, dtype=np.float16)
    path = write(tmp_path, external(dtype=TensorProto.FLOAT16, offset=3), data=b"abc" + values.tobytes())
    np.testing.assert_array_equal(read_initializers(path)["w"].read(), values.reshape(2, 3))


@pytest.mark.parametrize(
    "tensor",
    [
        external(offset=1),
        external(offset=-1),
        external(offset=10**30),
        external(offset="x"),
        external(dims=(2, 4)),
        external(dims=(2**40, 2**40)),
        external(dims=(-2, -3)),
        external(location="absent"),
        external(location="../m.data"),
        external(location="/etc/hostname"),
        TensorProto(name="w", dims=[2], data_type=TensorProto.FLOAT, raw_data=b"\0" * 7),
        TensorProto(name="w", dims=[2], data_type=TensorProto.FLOAT, raw_data=b"\0" * 9),
    ],
    ids=str,
)
def test_one_that_lies_elsewhere(tmp_path, tensor):
    path = write(tmp_path, tensor, data=b"\0" * 24)
    with pytest.raises(BundleError, match=r"m\.onnx") as error:
        read_initializers(path)
    assert "\n" not in str(error.value)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64), st.data())
def test_damaged_graphs_are_errors_or_harmless(tmp_path_factory, noise, data):
    folder = tmp_path_factory.mktemp("damaged")
    path = write(folder, external(), external("v", offset=4), data=b"\0" * 28)
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:at] + noise + content[at + len(noise) :])
    try:
        for one in read_initializers(path).values():
            one.read()
    except BundleError as error:
        assert str(path) in str(error)
