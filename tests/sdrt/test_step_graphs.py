"""The graphs that ship are those that export code makes today."""

from __future__ import annotations

import numpy as np
import pytest
from installed_backends import INSTALLED

from sdrt import graphs
from sdrt.backends import open_runtime
from sdrt_export import step_graphs

MADE = step_graphs.all_graphs()


def test_no_file_too_many_or_too_few():
    assert {file.name for file in graphs.FOLDER.glob("*.onnx")} == set(MADE)


@pytest.mark.parametrize("name", MADE)
def test_up_to_date(name):
    shipped = (graphs.FOLDER / name).read_bytes()
    remedy = "run: python -m sdrt_export.step_graphs"
    assert shipped == MADE[name].SerializeToString(deterministic=True), remedy


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pixels_are_rounded_and_clamped(dtype, name):
    runtime = open_runtime(name)
    graph = runtime.load(graphs.path("pixels", dtype), small=True)
    values = np.array([-2, -1, -0.5, 0, 0.25, 0.5, 1, 3, np.nan, -np.inf], dtype)
    image = np.zeros((len(values), 3, 2, 2), dtype) + values[:, None, None, None]
    device = runtime.device
    shapes = {"image": image.shape, "pixels": (len(values), 2, 2, 3), "finite": (len(values),)}
    specs = {**graph.inputs, **graph.outputs}
    buffers = {key: device.empty(shape, specs[key].dtype) for key, shape in shapes.items()}
    device.upload(image, buffers["image"])
    graph.bind(buffers)
    graph.run()
    expected = np.round(np.clip(values[:8].astype(np.float32) / 2 + 0.5, 0, 1) * 255)
    np.testing.assert_array_equal(device.download(buffers["pixels"])[:8, 0, 0, 0], expected)
    np.testing.assert_array_equal(device.download(buffers["finite"]), [True] * 8 + [False] * 2)


@pytest.mark.parametrize("precision", step_graphs.PRECISIONS)
def test_axes_of_one_name_have_one_size(precision):
    """TensorRT and torch.export hold axes of one name to be equal: where guidance ends, rows become fewer."""
    graph = step_graphs.step_graph(precision).graph
    axes = {
        value.name: value.type.tensor_type.shape.dim[0].dim_param for value in (*graph.input, *graph.output)
    }
    assert axes["owners"] == axes["sample"]
    assert axes["out_sample"] not in (axes["sample"], axes["state"])
