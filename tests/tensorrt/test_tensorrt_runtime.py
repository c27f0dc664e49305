"""Pictures from engines: sdrt's own builder, runtime and device, over a library and a GPU that are none."""

from __future__ import annotations

import gc
import shutil
import sys
from pathlib import Path

import fake_tensorrt
import lora_files
import numpy as np
import pytest

from sdrt import graphs
from sdrt.backends.onnxruntime import Runtime as OnnxRuntime
from sdrt.bundle import DEMO, Bundle
from sdrt.errors import BackendUnavailableError, ComputeError, EngineError, InputError, MissingExtraError
from sdrt.lora.overrides import read_parameters
from sdrt.pipeline import Pipeline
from sdrt.profiles import Range
from sdrt_export.engine_builders import BuilderOptions, open_builder
from sdrt_export.engine_shapes import Shapes
from sdrt_export.engines import build_engines

PROMPT = "a large red circle on a blue background"
RUN = {"seed": 1, "steps": 6}

pytestmark = pytest.mark.usefixtures("tensorrt")


class Reference(OnnxRuntime):
    """onnxruntime on the standard files, those that engines are made from."""

    name = "reference"


def pixels(bundle, backend="tensorrt", *, loras=(), **settings):
    with Pipeline.load(bundle, backend=backend, loras=loras) as pipeline:
        return [one.pixels for one in pipeline.generate(PROMPT, **{**RUN, **settings})]


def same(made, expected):
    """Bit for bit: the engines are onnxruntime, so whatever differs was done to buffers."""
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sampler": "dpmpp_2m_sde", "seed": 5},
        {"guidance_interval": (0.2, 0.7)},
        {"guidance_scale": 1.0},
        {"count": 3},
        {"prompt": "a [red:green:0.5] circle"},
    ],
    ids=["plain", "noisy", "guidance interval", "unguided", "three", "changing prompt"],
)
def test_pictures_are_those_of_the_graphs(built, settings):
    settings = dict(settings)
    prompt = settings.pop("prompt", PROMPT)
    pictures = []
    for backend in (Reference(), "tensorrt"):
        with Pipeline.load(built, backend=backend) as pipeline:
            pictures.append([one.pixels for one in pipeline.generate(prompt, **{**RUN, **settings})])
    same(pictures[1], pictures[0])


def test_predictions_are_those_of_the_graphs(built):
    """And change no picture; the engine of the step is opened once more for them."""
    looks, pictures = [], []
    for backend in (Reference(), "tensorrt"):
        with Pipeline.load(built, backend=backend) as pipeline:
            request = pipeline.generate(PROMPT, **RUN, count=2)[0].request
            looks.append([])
            pictures += pipeline.run(request, lambda at: looks[-1].extend(at.predictions()))
            pictures += pipeline.run(request)
    assert len(looks[1]) == RUN["steps"]
    same(looks[1], looks[0])
    for picture in pictures[1:]:
        same(picture.pixels, pictures[0].pixels)


def test_nothing_waits_for_the_gpu_while_denoising(built, cuda):
    with Pipeline.load(built, backend="tensorrt") as pipeline:
        waits = []
        request = pipeline.generate(PROMPT, **RUN)[0].request
        before = cuda.counts["cudaStreamSynchronize"]
        for _ in pipeline.run(request, lambda _: waits.append(cuda.counts["cudaStreamSynchronize"])):
            pass
        assert set(waits) == {before}  # the prompts are known already
        # for each of the three things that are downloaded: the picture, and whether it is one
        assert cuda.counts["cudaStreamSynchronize"] - before == 3


def test_steps_are_captured_once_and_replayed(built, cuda):
    with Pipeline.load(built, backend="tensorrt") as pipeline:
        pictures = [pipeline.generate(PROMPT, **{**RUN, "steps": 20})[0].pixels]
        # the U-Net, the two directions of the step, and the text encoder, which ran twice
        assert cuda.counts["cudaStreamBeginCapture"] == 4
        assert cuda.counts["cudaGraphLaunch"] == 19 + (10 + 9) + 1
        pictures += [pipeline.generate(PROMPT, **{**RUN, "steps": 20})[0].pixels for _ in range(3)]
        # equal pictures find what was captured; the VAE and its two small graphs ran a second time
        assert cuda.counts["cudaStreamBeginCapture"] == 4 + 3
    for other in pictures[1:]:
        same(other, pictures[0])


def test_engine_that_cannot_be_captured_runs_as_it_is(built, cuda, tensorrt):
    expected = pixels(built, Reference())
    tensorrt.fake.capturable = False
    same(pixels(built), expected)
    assert cuda.counts["cudaGraphLaunch"] == 0
    assert cuda.counts["cudaStreamBeginCapture"] <= 8  # it is not tried again and again


class Latents:
    """The small graph that scales a state, bound to buffers of its own."""

    def __init__(self, device):
        shapes = {"state": (1, 5, 4, 8, 8), "scale": (), "latent_sample": (1, 4, 8, 8)}
        self.device = device
        self.buffers = {name: device.empty(shape, "float32") for name, shape in shapes.items()}
        self.buffers["finite"] = device.empty((1,), "bool")

    def run(self, graph, value):
        """Whether three runs, of which the second is captured, compute what they should."""
        graph.bind(self.buffers)
        for scale in (1, 2, 3):
            self.device.upload(np.full((1, 5, 4, 8, 8), value, np.float32), self.buffers["state"])
            self.device.upload(np.asarray(scale, np.float32), self.buffers["scale"])
            graph.run()
        return (self.device.download(self.buffers["latent_sample"]) == 3 * value).all()


def test_more_buffers_than_contexts(built, cuda, tensorrt):
    """The context that was bound longest ago is set to the new ones; what was captured of it is gone."""
    runtime = opened(built)
    graph = runtime.load(graphs.path("latents", "float32"), small=True)
    sets = [Latents(runtime.device) for _ in range(10)]
    for index, one in enumerate(sets[:8]):
        assert one.run(graph, index)
    assert sets[0].run(graph, 20)
    assert (tensorrt.fake.contexts, cuda.counts["cudaStreamBeginCapture"]) == (8, 8)
    assert sets[8].run(graph, 8)  # takes the place of the second
    assert sets[0].run(graph, 30)
    assert (tensorrt.fake.contexts, cuda.counts["cudaStreamBeginCapture"]) == (8, 9)
    for index, one in enumerate(sets):
        assert one.run(graph, index)
    assert tensorrt.fake.contexts == 8


def test_larger_engine_loaded_later(built, cuda):
    """Memory for activations moves; what was captured with the old one is captured anew."""
    runtime = opened(built)
    graph = runtime.load(graphs.path("latents", "float32"), small=True)
    latents = Latents(runtime.device)
    assert latents.run(graph, 1)
    runtime.load(built / "vae_decoder/model.onnx")
    assert latents.run(graph, 2)
    assert cuda.counts["cudaStreamBeginCapture"] == 2


def test_buffer_that_was_let_go(built):
    runtime = opened(built)
    graph = runtime.load(graphs.path("latents", "float32"), small=True)
    latents = Latents(runtime.device)
    assert latents.run(graph, 1)
    del latents.buffers["scale"]
    with pytest.raises(AssertionError, match="let go"):
        graph.run()


def test_engines_share_the_memory_they_compute_in(built, cuda):
    with Pipeline.load(built, backend="tensorrt") as pipeline:
        pipeline.generate(PROMPT, **RUN)
        wanted = sorted(fake_tensorrt.ACTIVATIONS.values())
        sizes = sorted(block.nbytes for block in cuda.memory.values())
        assert sizes[-1] == wanted[-1] and sizes[-2] < wanted[0]


def test_memory_of_pictures_is_used_again(built, cuda):
    with Pipeline.load(built, backend="tensorrt") as pipeline:
        for seed in range(3):
            pipeline.generate(PROMPT, **{**RUN, "seed": seed})
        before = cuda.counts["cudaMalloc"]
        for seed in range(3, 8):
            pipeline.generate(PROMPT, **{**RUN, "seed": seed})
        assert cuda.counts["cudaMalloc"] == before
    del pipeline
    gc.collect()
    assert cuda.memory == {}


def test_other_sizes_between(bundle, tensorrt):
    """One engine for a range: contexts are set to new shapes, and back."""
    shapes = Shapes(width=Range(64, 64, 128), height=Range(64, 64, 128), batch=Range(1, 1, 2))
    build_engines(bundle, open_builder("tensorrt", BuilderOptions()), shapes)
    sizes = [(64, 64), (128, 64), (72, 96), (64, 64), (104, 104), (88, 72), (128, 128), (64, 64)]
    with (
        Pipeline.load(bundle, backend="tensorrt") as pipeline,
        Pipeline.load(bundle, backend=Reference()) as reference,
    ):
        for width, height in sizes:
            size = {"width": width, "height": height, "count": 2}
            run = {**RUN, "steps": 2, **size}
            made, expected = (one.generate(PROMPT, **run) for one in (pipeline, reference))
            same([one.pixels for one in made], [one.pixels for one in expected])


def test_metadata_names_the_backend(built):
    with Pipeline.load(built, backend="tensorrt") as pipeline:
        (picture,) = pipeline.generate(PROMPT, **RUN)
    assert any("tensorrt" in text for text in picture.texts.values())


@pytest.fixture
def lora(tmp_path):
    """Of a linear layer, which the graph has transposed, and a convolution with a bias."""
    query, conv = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q", "mid_block.resnets.0.conv1"
    stored = read_parameters(DEMO / "unet/model.onnx")
    shapes = {name: stored[f"{name}.weight"] for name in (query, conv)}
    factors = lora_files.random_factors(shapes, 4, alpha=40.0)
    return lora_files.write(tmp_path / "style.safetensors", lora_files.kohya({"unet": factors}))


def test_loras_are_refitted(refittable, lora, tensorrt):
    plain, expected = pixels(refittable), pixels(refittable, Reference(), loras=[(lora, 1.0)])
    same(pixels(refittable, loras=[(lora, 1.0)]), expected)
    assert tensorrt.fake.refits == 1
    assert not np.array_equal(plain, expected)
    same(pixels(refittable), plain)  # the file is as it was


def test_lora_on_an_engine_that_takes_none(built, lora):
    with pytest.raises(EngineError, match=r"unet.*plan has its weights .*--engine tensorrt --refittable$"):
        pixels(built, loras=[(lora, 1.0)])


def test_lora_that_tensorrt_refuses(refittable, lora, tensorrt, monkeypatch):
    monkeypatch.setattr(tensorrt.Refitter, "set_named_weights", lambda self, name, weights: False)
    with pytest.raises(EngineError, match=r"TensorRT cannot replace mid_block.*--backend onnxruntime"):
        pixels(refittable, loras=[(lora, 1.0)])


def test_weight_of_another_shape(refittable, tensorrt):
    runtime = opened(refittable)
    graph = refittable / "text_encoder/model.onnx"
    name = "embeddings.token_embedding.weight"
    table = read_parameters(graph)[name]
    longer = np.zeros((table[0] + 1, table[1]), np.float16)
    with pytest.raises(EngineError, match=rf"built for {name} of shape .*--textual-inversion FILE"):
        runtime.load(graph, overrides={name: longer})


def opened(bundle):
    from sdrt.backends import open_runtime

    return open_runtime("tensorrt").for_bundle(Bundle.open(bundle))


def test_tensorrt_of_another_version(built, cuda, monkeypatch):
    fake_tensorrt.install(monkeypatch, cuda, "11.4.0.106")
    says = (
        r"has no tensorrt-sm90-11\.4\.0\.106, engines for this machine, only tensorrt-sm90-10\.16\.1\.11; "
        r"build with: sdrt export .* --engine tensorrt$"
    )
    with pytest.raises(EngineError, match=says):
        pixels(built)


def test_another_gpu(built, cuda):
    cuda.architecture = (8, 9)
    with pytest.raises(EngineError, match="has no tensorrt-sm89-10"):
        pixels(built)


def test_plan_of_another_build_of_tensorrt(built, tmp_path, cuda, monkeypatch):
    """The name of the folder is right, and TensorRT refuses the plan all the same."""
    fake_tensorrt.install(monkeypatch, cuda, "10.16.1.12")
    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    (copy / "tensorrt-sm90-10.16.1.11").rename(copy / "tensorrt-sm90-10.16.1.12")
    with pytest.raises(EngineError, match=r"not load .*\.plan: .*built with 10.*; remove it and build with"):
        Pipeline.load(copy, backend="tensorrt", trust_engines=True)


def test_size_outside_the_profile(built):
    with pytest.raises(InputError, match=r"no tensorrt engine of .* makes 128x64, only 64x64; ask"):
        pixels(built, width=128)


def test_not_installed(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtraError, match=r"tensorrt is not installed.*pip install 'sdrt\[tensorrt\]'"):
        Pipeline.load(bundle, backend="tensorrt")


def test_libraries_not_installed(bundle, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendUnavailableError, match=r"not load: libnvinfer.so.10.*pip install --force"):
        Pipeline.load(bundle, backend="tensorrt")


def test_out_of_memory_for_activations(built, cuda, monkeypatch):
    monkeypatch.setitem(fake_tensorrt.ACTIVATIONS, "vae_decoder", 6_000_000_000)
    with pytest.raises(ComputeError, match=r"out of memory: 6\.0 GB were wanted on the GPU.*lower the width"):
        pixels(built)


def test_failed_execution_names_the_plan(built, tensorrt, monkeypatch):
    def fails(self, stream_handle):
        self._engine._logger.log(tensorrt.ILogger.Severity.ERROR, "no kernel image\nis available")
        return False

    monkeypatch.setattr(tensorrt.IExecutionContext, "execute_async_v3", fails)
    with pytest.raises(ComputeError, match=r"text_encoder.*\.plan failed in TensorRT: no kernel image is"):
        pixels(built)


def test_output_buffer_of_another_shape(built):
    runtime = opened(built)
    graph = runtime.load(built / "vae_decoder/model.onnx")
    device = runtime.device
    buffers = {
        "latent_sample": device.empty((1, 4, 8, 8), "float32"),
        "sample": device.empty((1, 3, 64, 32), "float32"),
    }
    with pytest.raises(ComputeError, match=r"it gives sample of shape \[1, 3, 64, 64\], the buffer has"):
        graph.bind(buffers)
