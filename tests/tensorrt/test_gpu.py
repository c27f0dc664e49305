"""On a real GPU with the real library: nothing is imitated here. The demo model makes it quick."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sdrt.backends.cuda import CudaDevice
from sdrt.engines import RECORD
from sdrt.errors import SdrtError
from sdrt_export import export
from sdrt_export.engine_builders import BuilderOptions, open_builder
from sdrt_export.engine_shapes import Shapes
from sdrt_export.engines import build_engines

pytestmark = pytest.mark.gpu


@pytest.fixture
def device() -> CudaDevice:
    try:
        return CudaDevice()
    except SdrtError as error:
        pytest.skip(str(error))


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


def test_half_engines(tmp_path):
    """An FP16 bundle's engines compute in FP16; that they have half layers is checked by the build too."""
    try:
        builder = open_builder("tensorrt", BuilderOptions(level=1))
    except SdrtError as error:
        pytest.skip(str(error))
    folder = build_engines(export("demo", tmp_path / "half", precision="fp16"), builder, Shapes(static=True))
    record = json.loads((folder / RECORD).read_text())
    layers = {one["graph"]: one["layers"] for one in record["engines"]}
    assert layers["unet"]["float16"] > layers["unet"].get("float32", 0)
