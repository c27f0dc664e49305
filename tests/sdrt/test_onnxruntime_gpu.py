"""onnxruntime's providers for NVIDIA GPUs, as far as that goes without one: see `fake_gpu`."""

from __future__ import annotations

import json
import sys

import fake_gpu
import numpy as np
import onnxruntime
import pytest
from fake_gpu import CPU, CUDA, STREAM, TENSORRT

from sdrt import graphs
from sdrt.backends import open_runtime
from sdrt.backends.onnxruntime_gpu import Runtime
from sdrt.bundle import DEMO, Bundle
from sdrt.errors import BackendUnavailableError, BundleError
from sdrt.pipeline import Pipeline
from sdrt.profiles import Profile, Range

NAMES = ["onnxruntime:cuda", "onnxruntime:tensorrt"]
PROMPT = "a large red circle on a blue background"
SETTINGS = {"steps": 4, "seed": 3, "guidance_scale": 2.0}
absent = pytest.mark.skipif(
    CUDA in onnxruntime.get_available_providers(), reason="this onnxruntime is built for GPUs"
)


@absent
@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_for_cpus(refused, name):
    provider = CUDA if name.endswith("cuda") else TENSORRT
    mend = "pip uninstall -y onnxruntime && pip install 'sdrt[cuda]'"
    refused("generate", "a cat", "--backend", name, says=(f"has no {provider}", mend))


@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_not_installed(refused, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    says = ("onnxruntime-gpu is not installed", "pip install 'sdrt[cuda]'")
    refused("generate", "a cat", "--backend", name, says=says)


@pytest.mark.parametrize(("name", "missing"), [(NAMES[0], CUDA), (NAMES[1], TENSORRT), (NAMES[1], CUDA)])
def test_provider_whose_library_is_missing(refused, monkeypatch, name, missing):
    """onnxruntime takes the CPU then, and says nothing."""
    fake_gpu.install(monkeypatch, loads=lambda provider: provider != missing)
    refused(
        "generate", "a cat", "--backend", name, says=("asked for", "onnxruntime took", "it needs the lib")
    )


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        (name, operator)
        for name, attention in zip(NAMES, ("MultiHeadAttention", "Attention"), strict=True)
        for operator in ("Conv", "MatMul", "InstanceNormalization", attention)
    ],
)
def test_part_of_a_network_that_would_run_elsewhere(refused, monkeypatch, name, operator):
    def takes(op, provider):
        return op != operator or provider == CPU

    fake_gpu.install(monkeypatch, takes=takes)
    says = (f"does not take {operator} of", f"which {CPU} would run")
    refused("generate", "a cat", "--backend", name, says=says)


def test_what_computes_shapes_may_run_on_the_cpu(monkeypatch):
    fake_gpu.install(monkeypatch, takes=lambda op, provider: op not in ("Shape", "Concat") or provider == CPU)
    open_runtime("onnxruntime:cuda").load(DEMO / "unet/onnxruntime.onnx").close()


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_those_of_the_cpu(monkeypatch, pipeline, name):
    """Through our bindings, options and streams, with the CPU's kernels."""
    expected = pipeline.generate(PROMPT, **SETTINGS)[0].pixels
    opened = fake_gpu.install(monkeypatch)
    with Pipeline.load(backend=name) as gpu:
        picture, again = gpu.generate(PROMPT, **SETTINGS)[0], gpu.generate(PROMPT, **SETTINGS)[0]
    if name == "onnxruntime:cuda":  # the other one runs the file with the standard's attention
        np.testing.assert_array_equal(picture.pixels, expected)
    difference = np.abs(picture.pixels.astype(int) - expected)
    assert difference.max() <= 2  # another order of summation
    np.testing.assert_array_equal(again.pixels, picture.pixels)
    assert name in picture.texts["sdrt"]
    for session in opened:
        provider = next(iter(session.asked))
        assert provider == (CUDA if name == "onnxruntime:cuda" else TENSORRT)
        for options in session.asked.values():
            assert options["user_compute_stream"] == str(STREAM)
            assert all(isinstance(text, str) for pair in options.items() for text in pair)


def test_runs_over_the_same_buffers_are_captured_once(monkeypatch):
    """As they are twice, then under a number that was never used before."""
    opened = fake_gpu.install(monkeypatch)
    runtime = open_runtime("onnxruntime:cuda")
    graph = runtime.load(graphs.path("latents", "float32"), small=True)
    session = opened[-1]
    assert session.asked[CUDA]["enable_cuda_graph"] == "1"

    def buffers(batch):
        shapes = {
            "state": (batch, 5, 4, 3, 3),
            "scale": (),
            "latent_sample": (batch, 4, 3, 3),
            "finite": (batch,),
        }
        specs = {**graph.inputs, **graph.outputs}
        return {name: runtime.device.empty(shape, specs[name].dtype) for name, shape in shapes.items()}

    def run(times):
        session.graph_ids.clear()
        for _ in range(times):
            graph.run()
        return session.graph_ids

    first, other = buffers(2), buffers(3)
    graph.bind(first)
    assert run(5) == ["-1", "-1", "1", "1", "1"]
    graph.bind(dict(first))
    assert run(2) == ["1", "1"]
    graph.bind(other)
    assert run(4) == ["-1", "-1", "2", "2"]
    graph.bind(first)
    assert run(3) == ["-1", "-1", "3"]
    assert session.released == [0, 1, 2]


def test_graph_that_cannot_be_captured(monkeypatch):
    def refuse(providers):
        if providers[CUDA]["enable_cuda_graph"] == "1":
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")

    opened = fake_gpu.install(monkeypatch, refuse=refuse)
    graph = open_runtime("onnxruntime:cuda").load(graphs.path("pixels", "float32"), small=True)
    assert opened[-1].asked[CUDA]["enable_cuda_graph"] == "0"
    shapes = {"image": (1, 3, 8, 8), "pixels": (1, 8, 8, 3), "finite": (1,)}
    specs = {**graph.inputs, **graph.outputs}
    device = fake_gpu.FakeCudaDevice()
    graph.bind({name: device.empty(shape, specs[name].dtype) for name, shape in shapes.items()})
    for _ in range(4):
        graph.run()
    assert opened[-1].graph_ids == ["-1"] * 4


def test_other_refusals_are_told(monkeypatch):
    def refuse(providers):
        raise RuntimeError("CUDA failure 2: out of memory")

    fake_gpu.install(monkeypatch, refuse=refuse)
    with pytest.raises(BundleError, match="out of memory"):
        open_runtime("onnxruntime:cuda")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_small_graphs_compute_in_float32(monkeypatch, dtype):
    """Whatever the network does: TensorRT's FP16 switch would round guidance and state."""
    opened = fake_gpu.install(monkeypatch)
    open_runtime("onnxruntime:tensorrt").load(graphs.path("step", dtype), small=True)
    assert opened[-1].asked[TENSORRT]["trt_fp16_enable"] == "0"
    assert opened[-1].asked[CUDA]["use_tf32"] == "0"


def test_engines_are_kept_by_what_the_graph_holds(monkeypatch, cache_home):
    opened = fake_gpu.install(monkeypatch)
    bundle = Bundle.open(DEMO)
    profile = Profile(
        pictures=Range.at(1), rows=Range(1, 2, 2), height=Range.at(64), width=Range(64, 64, 128)
    )
    runtime = Runtime("tensorrt", profile).for_bundle(bundle)
    unet = runtime.load(DEMO / "unet/model.onnx")
    options = opened[-1].asked[TENSORRT]
    assert options["trt_profile_min_shapes"] == "sample:1x4x8x8,timestep:1,encoder_hidden_states:1x77x128"
    assert options["trt_profile_max_shapes"] == "sample:2x4x8x16,timestep:2,encoder_hidden_states:2x77x128"
    assert set(unet.inputs) == {"sample", "timestep", "encoder_hidden_states"}
    runtime.load(DEMO / "vae_decoder/model.onnx")
    folders = [session.asked[TENSORRT]["trt_engine_cache_path"] for session in opened[-2:]]
    assert len(set(folders)) == 2
    assert all(folder.startswith(str(cache_home)) for folder in folders)
    # weights that were replaced are in the engine: it must not be found for the graph without them
    weights = {"conv_in.bias": np.zeros(64, np.float32)}
    runtime.load(DEMO / "unet/model.onnx", overrides=weights)
    assert "trt_engine_cache_enable" not in opened[-1].asked[TENSORRT]


def test_doctor_says_what_opens(sdrt_main, monkeypatch):
    named = json.loads(sdrt_main("doctor", "--json").out)["backends"]
    assert not {*NAMES} & {*named} or CUDA in onnxruntime.get_available_providers()
    fake_gpu.install(monkeypatch)
    named = json.loads(sdrt_main("doctor", "--json").out)["backends"]
    assert {*NAMES} <= {*named}


def test_no_device_is_an_error(monkeypatch, refused):
    def absent_device():
        raise BackendUnavailableError("no NVIDIA GPU was found; see nvidia-smi")

    fake_gpu.install(monkeypatch)
    monkeypatch.setattr(sys.modules["sdrt.backends.cuda"], "CudaDevice", absent_device)
    refused("generate", "a cat", "--backend", "onnxruntime:cuda", says=("no NVIDIA GPU",))
