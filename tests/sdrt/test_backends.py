"""A backend that was asked for and is not there is an error, never a silent fall to another one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from installed_backends import INSTALLED

from sdrt import graphs
from sdrt.backends import open_runtime
from sdrt.backends.host import HostDevice
from sdrt.bundle import DEMO
from sdrt.errors import BundleError, ComputeError
from sdrt.onnx_initializers import read_initializers


def test_onnxruntime_not_installed(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    says = ("onnxruntime is not installed", "pip install 'sdrt[cpu]'")
    refused("generate", "a cat", "--backend", "onnxruntime", says=says)


def test_onnxruntime_not_installed_in_a_new_process(tmp_path):
    code = "import sys; sys.modules['onnxruntime'] = None; from sdrt.cli import main; main()"
    command = [sys.executable, "-c", code, "generate", "a cat", "--backend", "onnxruntime"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "Error: onnxruntime is not installed; install it with: pip install 'sdrt[cpu]'\n"
    assert list(tmp_path.iterdir()) == []


def test_build_without_the_provider(refused, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider"])
    refused("generate", "a cat", says=("has no CPUExecutionProvider", "reinstall onnxruntime"))


def test_provider_that_did_not_load(refused, monkeypatch):
    other = ["AzureExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: other)
    refused("generate", "a cat", says=("asked for CPUExecutionProvider", "AzureExecutionProvider"))


def test_graph_that_does_not_load(refused, bundle, rehash):
    # a sound protobuf message that is no model
    (bundle / "unet/onnxruntime.onnx").write_bytes(b"\x08\x0a")
    rehash("unet/onnxruntime.onnx")
    says = ("onnxruntime cannot load", str(bundle / "unet/onnxruntime.onnx"))
    refused("generate", "a cat", "-m", str(bundle), says=says)


@pytest.mark.parametrize("name", INSTALLED)
def test_every_backend_runs_the_step(name):
    """The protocol as the loop uses it: bind once, write inputs, run, read outputs, run again."""
    runtime = open_runtime(name)
    graph = runtime.load(graphs.path("latents", "float32"), small=True)
    device = runtime.device
    shapes = {"state": (2, 5, 4, 3, 3), "scale": (), "latent_sample": (2, 4, 3, 3), "finite": (2,)}
    specs = {**graph.inputs, **graph.outputs}
    assert set(specs) == set(shapes)
    buffers = {key: device.empty(shape, specs[key].dtype) for key, shape in shapes.items()}
    graph.bind(buffers)
    state = np.random.default_rng(0).normal(size=shapes["state"]).astype(np.float32)
    for scale in (1.0, 2.0):
        device.upload(state, buffers["state"])
        device.upload(np.asarray(scale, np.float32), buffers["scale"])
        graph.run()
        np.testing.assert_array_equal(device.download(buffers["latent_sample"]), state[:, 0] * scale)
    state[1, 0, 0, 0, 0] = np.inf
    device.upload(state, buffers["state"])
    graph.run()
    np.testing.assert_array_equal(device.download(buffers["finite"]), [True, False])
    kept = device.download(buffers["finite"])
    state[:] = 0
    device.upload(state, buffers["state"])
    graph.run()
    np.testing.assert_array_equal(kept, [True, False])  # a download is a copy
    graph.close()


@pytest.mark.parametrize("name", INSTALLED)
def test_failing_graph_is_named(name):
    runtime = open_runtime(name)
    graph = runtime.load(graphs.path("step", "float32"))
    device = runtime.device
    specs = {**graph.inputs, **graph.outputs}
    graph.bind({key: device.empty(tuple(n or 1 for n in s.shape), s.dtype) for key, s in specs.items()})
    wrong = {key: device.empty(tuple(n or 3 for n in s.shape), s.dtype) for key, s in specs.items()}
    wrong["owners"] = device.empty((2,), "int64")
    graph.bind(wrong)
    for key in ("rows", "owners"):
        device.upload(np.zeros(wrong[key].shape, np.int64), wrong[key])
    with pytest.raises(ComputeError, match=r"step\.fp32\.onnx failed in o"):
        graph.run()


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("bound", [(1, 4, 3, 3), (3, 4, 3, 3), (2, 4, 3, 2)])
def test_buffer_of_another_shape_than_the_output(name, bound):
    runtime = open_runtime(name)
    graph = runtime.load(graphs.path("latents", "float32"), small=True)
    shapes = {"state": (2, 5, 4, 3, 3), "scale": (), "latent_sample": bound, "finite": (2,)}
    specs = {**graph.inputs, **graph.outputs}
    buffers = {key: runtime.device.empty(shape, specs[key].dtype) for key, shape in shapes.items()}
    graph.bind(buffers)
    runtime.device.upload(np.zeros(shapes["state"], np.float32), buffers["state"])
    with pytest.raises(ComputeError, match=r"latents\.fp32\.onnx failed in o"):
        graph.run()


@pytest.mark.parametrize("name", INSTALLED)
def test_weights_can_be_replaced_at_load(name):
    """In the data file or in the graph itself; in the file's shape or with more rows; the file stays."""
    runtime = open_runtime(name)
    path = DEMO / "text_encoder/model.onnx"
    stored = read_initializers(path)
    table = stored["embeddings.token_embedding.weight"].read()
    bias = stored["encoder.layers.0.mlp.fc1.bias"].read()
    assert stored["final_layer_norm.bias"].external
    shift = stored["final_layer_norm.bias"].read() + np.float32(1)

    def states(ids, **overrides):
        named = {key.replace("__", "."): value for key, value in overrides.items()}
        graph = runtime.load(path, exact=True, overrides=named)
        buffers = {
            key: runtime.device.empty(tuple(axis or 1 for axis in spec.shape), spec.dtype)
            for key, spec in {**graph.inputs, **graph.outputs}.items()
        }
        graph.bind(buffers)
        runtime.device.upload(ids, buffers["input_ids"])
        del named, overrides
        graph.run()
        return runtime.device.download(buffers["last_hidden_state"])

    ids = np.arange(77)[None]
    plain = states(ids)
    np.testing.assert_allclose(states(ids, final_layer_norm__bias=shift), plain + 1, atol=1e-5)
    np.testing.assert_array_equal(states(ids, encoder__layers__0__mlp__fc1__bias=bias), plain)
    longer = np.concatenate([table, table[5:6]])
    swapped = np.where(ids == 5, len(table), ids)
    np.testing.assert_allclose(
        states(swapped, embeddings__token_embedding__weight=longer), plain, atol=1e-5, rtol=0
    )
    np.testing.assert_array_equal(states(ids), plain)


@pytest.mark.parametrize("name", INSTALLED)
def test_replacing_a_weight_that_is_not_there(name):
    path = DEMO / "text_encoder/model.onnx"
    with pytest.raises(BundleError, match=r"text_encoder/model.onnx has no weight nothing.weight"):
        open_runtime(name).load(path, overrides={"nothing.weight": np.zeros(2, np.float32)})


@pytest.mark.parametrize("shape", [(2**62,), (2**40, 2**40)])
def test_out_of_memory_says_how_much(shape):
    with pytest.raises(ComputeError, match=r"out of memory: .* GB were wanted.*lower the size"):
        HostDevice().empty(shape, "float32")


def test_buffer_of_another_device():
    with pytest.raises(TypeError, match="object is not in the memory of the CPU"):
        HostDevice().download(object())
