"""On a real GPU with the real library: nothing is faked here."""

from __future__ import annotations

import importlib.util
import shutil

import numpy as np
import pytest

from sdrt.backends.cuda import CudaDevice
from sdrt.bundle import DEMO
from sdrt.errors import SdrtError
from sdrt.pipeline import Pipeline
from sdrt.profiles import Range
from sdrt_export.engine_builders import BuilderOptions, open_builder
from sdrt_export.engines import Shapes, build_engines

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
    if importlib.util.find_spec("tensorrt") is None:
        pytest.skip("tensorrt is not installed: pip install 'sdrt[tensorrt]'")
    try:
        builder = open_builder("tensorrt", BuilderOptions(refittable=True, level=1))
    except SdrtError as error:
        pytest.skip(str(error))
    bundle = shutil.copytree(DEMO, tmp_path_factory.mktemp("bundles") / "demo")
    build_engines(bundle, builder, Shapes(width=Range(64, 64, 128), batch=Range(1, 1, 2)))
    return bundle


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


@pytest.mark.parametrize("size", [{}, {"width": 128}, {"count": 2}])
def test_pictures_are_those_of_onnxruntime(engines, size):
    """FP32 without TF32: sums in another order, which 8 steps carry into the last bits of a colour."""
    settings = {"seed": 1, "steps": 8, **size}
    with Pipeline.load(engines, backend="tensorrt") as pipeline:
        made = [pipeline.generate(PROMPT, **settings) for _ in range(4)]  # captured, and replayed
    with Pipeline.load(engines) as pipeline:
        expected = pipeline.generate(PROMPT, **settings)
    for pictures in made:
        for one, other in zip(pictures, expected, strict=True):
            assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 3
