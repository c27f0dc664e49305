"""The OpenVINO backend: the same pictures as onnxruntime's, to the precision that was asked for."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from installed_backends import INSTALLED

from sdrt import graphs
from sdrt.backends import open_runtime
from sdrt.backends.host import HostBuffer
from sdrt.backends.signal_stack import signal_stack
from sdrt.bundle import DEMO
from sdrt.errors import BackendUnavailableError, BundleError
from sdrt.onnx_signature import read_signature
from sdrt.pipeline import Pipeline
from sdrt.saved_graphs import SavedGraph

PROMPT = "a large red circle on a blue background"


def test_not_installed(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    says = ("openvino is not installed", "pip install 'sdrt[openvino]'")
    refused("generate", "a cat", "--backend", "openvino", says=says)


def psnr(ours, reference) -> float:
    error = np.mean((ours.astype(float) - reference) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


# measured on 24 pictures: float32 86 dB or the same bytes, bfloat16 54 to 59 dB
@pytest.mark.parametrize(
    ("name", "decibels"),
    [
        pytest.param(
            name, floor, marks=pytest.mark.skipif(name not in INSTALLED, reason=f"{name} does not open here")
        )
        for name, floor in {"openvino:f32": 60, "openvino:bf16": 40}.items()
    ],
)
def test_pictures_are_those_of_onnxruntime(name, decibels, pipeline):
    with Pipeline.load(backend=name) as other:
        assert other.runtime.name == name
        for settings in ({"seed": 1}, {"seed": 2, "sampler": "euler_a", "count": 2}):
            ours, theirs = (one.generate(PROMPT, **settings) for one in (other, pipeline))
            for a, b in zip(ours, theirs, strict=True):
                assert psnr(a.pixels, b.pixels) > decibels
                assert json.loads(a.texts["sdrt"])["backend"] == name


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino")


def test_the_name_tells_the_precision(openvino):
    capable = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert open_runtime("openvino").name == ("openvino:bf16" if capable else "openvino:f32")
    assert open_runtime("openvino:f32").name == "openvino:f32"


def test_cpu_without_bfloat16(openvino, monkeypatch):
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32"])
    assert open_runtime("openvino").name == "openvino:f32"
    with pytest.raises(BackendUnavailableError, match=r"no bfloat16 .* take --backend openvino:f32"):
        open_runtime("openvino:bf16")


def test_precision_that_was_not_taken(openvino, monkeypatch):
    monkeypatch.setattr(openvino.CompiledModel, "get_property", lambda *_: openvino.Type.f16)
    with pytest.raises(BackendUnavailableError, match=r"asked for f32, openvino took f16 for .*onnx"):
        open_runtime("openvino").load(graphs.path("step", "float32"), small=True)


def test_state_and_guidance_are_never_rounded(openvino):
    """1 + 2^-20 has more digits than bfloat16."""
    runtime = open_runtime("openvino")
    graph = runtime.load(graphs.path("latents", "float32"), small=True)
    specs = {**graph.inputs, **graph.outputs}
    shapes = {"state": (1, 5, 4, 2, 2), "scale": (), "latent_sample": (1, 4, 2, 2), "finite": (1,)}
    buffers = {name: runtime.device.empty(shape, specs[name].dtype) for name, shape in shapes.items()}
    graph.bind(buffers)
    buffers["state"].array[:] = 1 + 2**-20
    buffers["scale"].array[...] = 1
    graph.run()
    np.testing.assert_array_equal(buffers["latent_sample"].array, np.float32(1 + 2**-20))


@pytest.mark.skipif("openvino:bf16" not in INSTALLED, reason="openvino:bf16 does not open here")
def test_timesteps_are_not_rounded():
    """bfloat16 makes one of 998 and 999. The network's own rounding is 1 to 2 % here."""
    inputs = {
        "sample": np.random.default_rng(0).normal(size=(1, 4, 16, 16)),
        "encoder_hidden_states": np.random.default_rng(1).normal(size=(1, 77, 128)),
    }
    answers = {}
    for name in ("openvino:f32", "openvino:bf16"):
        runtime = open_runtime(name)
        graph = runtime.load(DEMO / "unet/model.onnx")
        buffers = {key: runtime.device.empty(value.shape, "float32") for key, value in inputs.items()}
        buffers |= {"timestep": runtime.device.empty((1,), "float32")}
        buffers |= {"out_sample": runtime.device.empty((1, 4, 16, 16), "float32")}
        graph.bind(buffers)
        for key, value in inputs.items():
            runtime.device.upload(value, buffers[key])
        for timestep in (983, 998, 999):
            runtime.device.upload(np.array([timestep]), buffers["timestep"])
            graph.run()
            answers[name, timestep] = runtime.device.download(buffers["out_sample"])
    for timestep in (983, 998, 999):
        exact, rounded = answers["openvino:f32", timestep], answers["openvino:bf16", timestep]
        assert np.linalg.norm(rounded - exact) < 0.02 * np.linalg.norm(exact)
    assert (answers["openvino:bf16", 998] != answers["openvino:bf16", 999]).any()


@pytest.mark.parametrize("content", [b"", b"\x08\x0a", b"no graph at all", b"\x08\x0a\x3a\x7f"])
def test_damaged_graph(openvino, content, tmp_path):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx is not an ONNX graph"):
        open_runtime("openvino").load(tmp_path / "model.onnx")


def test_graph_without_its_weights(openvino, bundle):
    (bundle / "unet/model.onnx.data").unlink()
    with pytest.raises(BundleError, match=r"openvino cannot load .*unet/model\.onnx"):
        open_runtime("openvino").load(bundle / "unet/model.onnx")


@pytest.mark.parametrize("path", [*graphs.FOLDER.glob("*.onnx"), *DEMO.rglob("*.onnx")], ids=lambda p: p.stem)
def test_signatures_are_those_that_onnxruntime_reads(path):
    graph = open_runtime("onnxruntime").load(path)
    assert read_signature(path) == (graph.inputs, graph.outputs)


@pytest.fixture
def kept(tmp_path):
    """Where a compiled graph may be kept."""
    return SavedGraph(folder=tmp_path / "graphs", digest="of these weights", size=1000)


def levels(openvino, graph, **options):
    """The pixels that a graph makes of noise, and whether it was loaded rather than compiled."""
    loaded = open_runtime("openvino:f32").load(graph, **options)
    dtype = loaded.inputs["image"].dtype
    buffers = {
        "image": HostBuffer(np.random.default_rng(0).normal(size=(2, 3, 16, 8)).astype(dtype)),
        "pixels": HostBuffer(np.empty((2, 16, 8, 3), np.uint8)),
        "finite": HostBuffer(np.empty(2, bool)),
    }
    loaded.bind(buffers)
    loaded.run()
    return buffers["pixels"].array, loaded._compiled.get_property("LOADED_FROM_CACHE")


def test_compiled_fp16_graph_is_kept(openvino, kept):
    """An FP16 graph takes long to compile; a picture is the same bytes either way."""
    graph = graphs.path("pixels", "float16")
    plain, _ = levels(openvino, graph)
    for loaded in (False, True, True):
        pixels, from_cache = levels(openvino, graph, saved=kept)
        np.testing.assert_array_equal(pixels, plain)
        assert from_cache is loaded


def test_damaged_compiled_graph_is_made_again(openvino, kept):
    graph = graphs.path("pixels", "float16")
    plain, _ = levels(openvino, graph, saved=kept)
    (blob,) = kept.folder.glob("*/*.blob")
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-100])
    for loaded in (False, True):
        pixels, from_cache = levels(openvino, graph, saved=kept)
        np.testing.assert_array_equal(pixels, plain)
        assert from_cache is loaded


def test_what_is_not_kept(openvino, kept):
    """FP32 graphs compile as fast as they would load."""
    assert levels(openvino, graphs.path("pixels", "float32"), saved=kept)[1] is False
    assert not list(kept.folder.glob("*"))


@pytest.mark.skipif("openvino:f32" not in INSTALLED, reason="openvino:f32 does not open here")
def test_signals_still_have_their_stack():
    """OpenVINO's own is freed with its models, and the next signal would be a segmentation fault."""

    def state():
        stack = signal_stack()
        return stack and (stack.sp, stack.flags, stack.size)

    before = state()
    for _ in range(2):
        with Pipeline.load(backend="openvino:f32") as ours:
            ours.generate(PROMPT, steps=1, seed=1)
            assert state() == before
        assert state() == before
