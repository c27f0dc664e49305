"""Backends for NVIDIA GPUs on a real one, nothing imitated: the demo model's pictures are onnxruntime's."""

from __future__ import annotations

import shutil
from functools import cache

import lora_files
import numpy as np
import pytest
from reference import psnr

from sdrt import graphs
from sdrt.backends import open_runtime
from sdrt.bundle import DEMO, Bundle
from sdrt.errors import SdrtError
from sdrt.lora.overrides import read_parameters
from sdrt.pipeline import Pipeline
from sdrt.profiles import Range

pytestmark = pytest.mark.gpu
PROMPT = "a large red circle on a blue background"
BACKENDS = [
    "aoti:cuda",
    "onnxruntime:cuda",
    "onnxruntime:tensorrt",
]  # tests/tensorrt/test_gpu.py has tensorrt


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    """A backend that opens here."""
    try:
        open_runtime(request.param)
    except SdrtError as error:
        pytest.skip(str(error))
    return request.param


@pytest.fixture(scope="module")
def bundle_for(tmp_path_factory):
    """The demo model in a precision, with the engines that a backend runs."""
    from sdrt_export import export
    from sdrt_export.engine_builders import BUILDERS, BuilderOptions, open_builder
    from sdrt_export.engine_shapes import Shapes
    from sdrt_export.engines import build_engines

    @cache
    def bundle(backend: str, precision: str):
        folder = tmp_path_factory.mktemp("bundles") / "demo"
        if precision == "fp32":
            shutil.copytree(DEMO, folder)
        else:
            export("demo", folder, precision=precision)
        kind = backend.partition(":")[0]
        if kind in BUILDERS:
            builder = open_builder(kind, BuilderOptions(refittable=True))
            build_engines(folder, builder, Shapes(width=Range(64, 64, 128), batch=Range(1, 1, 2)))
        return folder

    return bundle


def pictures(bundle, backend, *, loras=(), **settings):
    """The same ones several times: what is captured in one is replayed in the next."""
    with Pipeline.load(bundle, backend=backend, loras=loras) as pipeline:
        assert pipeline.runtime.name == backend
        return [
            one.pixels
            for _ in range(4)
            for one in pipeline.generate(PROMPT, seed=1, steps=8, **{"sampler": "euler_a", **settings})
        ]


@pytest.mark.parametrize(("precision", "decibels"), [("fp32", 50.0), ("fp16", 35.0)])
@pytest.mark.parametrize("settings", [{}, {"width": 128}, {"count": 2}, {"guidance_interval": (0.2, 0.7)}])
def test_pictures_are_those_of_the_cpu(backend, bundle_for, precision, decibels, settings):
    made = pictures(bundle_for(backend, precision), backend, **settings)
    expected = pictures(DEMO, "onnxruntime", **settings)
    assert min(psnr(*pair) for pair in zip(made, expected, strict=True)) >= decibels


def test_lora_at_load(backend, bundle_for, tmp_path):
    module = "mid_block.resnets.0.conv1"
    shape = read_parameters(DEMO / "unet/model.onnx")[f"{module}.weight"]
    factors = lora_files.random_factors({module: shape}, 4, alpha=40.0)
    lora = lora_files.write(tmp_path / "style.safetensors", lora_files.kohya({"unet": factors}))
    made = pictures(bundle_for(backend, "fp32"), backend, loras=[(lora, 10.0)])
    expected = pictures(DEMO, "onnxruntime", loras=[(lora, 10.0)])
    assert min(psnr(*pair) for pair in zip(made, expected, strict=True)) >= 50.0
    assert psnr(expected[0], pictures(DEMO, "onnxruntime")[0]) < 45.0  # else this could not fail


def test_nan_is_noticed(backend, bundle_for):
    runtime = open_runtime(backend).for_bundle(Bundle.open(bundle_for(backend, "fp32")))
    graph, device = runtime.load(graphs.path("latents", "float32"), small=True), runtime.device
    shapes = {"state": (1, 5, 4, 8, 8), "scale": (), "latent_sample": (1, 4, 8, 8)}
    buffers = {name: device.empty(shape, "float32") for name, shape in shapes.items()}
    buffers["finite"] = device.empty((1,), "bool")
    graph.bind(buffers)
    device.upload(np.asarray(1, np.float32), buffers["scale"])
    for value in (0, np.nan, np.inf, -np.inf, 0):
        state = np.zeros(shapes["state"], np.float32)
        state[0, 0, 0, 0, 0] = value
        device.upload(state, buffers["state"])
        graph.run()
        assert bool(device.download(buffers["finite"])[0]) == np.isfinite(value)
