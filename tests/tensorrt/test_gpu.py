"""On a real GPU with the real library: nothing is imitated here. The demo model makes it quick."""

from __future__ import annotations

import json
import shutil

import lora_files
import numpy as np
import pytest

from sdrt import graphs
from sdrt.backends import open_runtime
from sdrt.backends.cuda import CudaDevice
from sdrt.bundle import DEMO, Bundle
from sdrt.engines import RECORD
from sdrt.errors import SdrtError
from sdrt.lora.overrides import read_parameters
from sdrt.pipeline import Pipeline
from sdrt.profiles import Range
from sdrt_export import export
from sdrt_export.engine_builders import BuilderOptions, open_builder
from sdrt_export.engine_shapes import Shapes
from sdrt_export.engines import build_engines

pytestmark = pytest.mark.gpu
PROMPT = "a large red circle on a blue background"


@pytest.fixture
def device() -> CudaDevice:
    try:
        return CudaDevice()
    except SdrtError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """A copy of the demo bundle with engines that take LoRAs."""
    try:
        builder = open_builder("tensorrt", BuilderOptions(refittable=True, level=1))
    except SdrtError as error:
        pytest.skip(str(error))
    bundle = shutil.copytree(DEMO, tmp_path_factory.mktemp("bundles") / "demo")
    build_engines(bundle, builder, Shapes(width=Range(64, 64, 128), batch=Range(1, 1, 2)))
    return bundle


def generate(bundle, backend, *, loras=(), **settings):
    with Pipeline.load(bundle, backend=backend, loras=loras) as pipeline:
        # several times: what is captured in one picture is replayed in the next
        made = [pipeline.generate(PROMPT, seed=1, steps=8, **settings) for _ in range(4)]
    return np.array([[one.pixels for one in pictures] for pictures in made], int)


def furthest(bundle, **settings):
    """The largest difference of a colour between TensorRT and onnxruntime."""
    made, expected = (generate(bundle, backend, **settings) for backend in ("tensorrt", "onnxruntime"))
    return np.abs(made - expected).max()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
def test_what_goes_up_comes_down(device, dtype):
    array = np.asarray(np.random.default_rng(0).integers(0, 2, (3, 5, 7)), dtype)
    buffer = device.empty(array.shape, dtype)
    device.upload(array, buffer)
    np.testing.assert_array_equal(device.download(buffer), array)


def test_array_may_change_after_upload(device):
    buffers = [device.empty((1_000_000,), "float32") for _ in range(50)]
    array = np.zeros(1_000_000, np.float32)
    for index, buffer in enumerate(buffers):
        array[:] = index
        device.upload(array, buffer)
    assert [device.download(buffer)[7] for buffer in buffers] == list(range(50))


@pytest.mark.parametrize("settings", [{}, {"width": 128}, {"count": 2}, {"guidance_interval": (0.2, 0.7)}])
def test_pictures_are_those_of_onnxruntime(engines, settings):
    """FP32 without TF32: sums in another order, which 8 steps carry into the last bits of a colour."""
    assert furthest(engines, **settings) <= 3


def test_loras_are_refitted(engines, tmp_path):
    module = "mid_block.resnets.0.conv1"
    shape = read_parameters(DEMO / "unet/model.onnx")[f"{module}.weight"]
    factors = lora_files.random_factors({module: shape}, 4, alpha=40.0)
    lora = lora_files.write(tmp_path / "style.safetensors", lora_files.kohya({"unet": factors}))
    assert furthest(engines, loras=[(lora, 1.0)]) <= 3


def test_half_engines(engines, tmp_path):
    """Built from an FP16 export; that they have half layers is checked by the build itself."""
    bundle = export("demo", tmp_path / "half", precision="fp16")
    folder = build_engines(bundle, open_builder("tensorrt", BuilderOptions(level=1)), Shapes(static=True))
    record = json.loads((folder / RECORD).read_text())
    layers = {one["graph"]: one["layers"] for one in record["engines"]}
    assert layers["unet"]["float16"] > layers["unet"].get("float32", 0)
    made, expected = generate(bundle, "tensorrt"), generate(engines, "onnxruntime")
    # half has 11 bits, a colour 8: the mean is what people see
    assert np.abs(made - expected).mean() < 2


def test_nan_is_noticed(engines):
    """The graphs that look for it: TensorRT may take for granted that there is none."""
    runtime = open_runtime("tensorrt").for_bundle(Bundle.open(engines))
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
