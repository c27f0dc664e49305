"""Building engines: what TensorRT is told, what it says, and how it is stopped."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest
from click.testing import CliRunner

from sdrt import graphs
from sdrt.bundle import Bundle
from sdrt.engines import RECORD
from sdrt.errors import ExportError
from sdrt.onnx_signature import read_signature
from sdrt.profiles import Range, ShapeRange
from sdrt_export import tensorrt_progress
from sdrt_export.cli import export
from sdrt_export.engine_builders import BuilderOptions, open_builder
from sdrt_export.engine_shapes import Shapes
from sdrt_export.engines import EngineTask, build_engines
from sdrt_export.tensorrt_layers import precisions


def build(bundle, shapes=None, progress=lambda stage: None, **options):
    builder = open_builder("tensorrt", BuilderOptions(**options))
    folder = build_engines(bundle, builder, shapes or Shapes(), progress)
    record = json.loads((folder / RECORD).read_text())
    return {one["graph"]: one for one in record["engines"]}


def plan(bundle, engine):
    return json.loads((bundle / "tensorrt-sm90-10.16.1.11" / engine["file"]).read_text())


def test_what_the_record_says(bundle, tensorrt):
    engines = build(bundle)
    small, of_model = {"step", "latents", "pixels"}, {"text_encoder", "unet", "vae_decoder", "vae_encoder"}
    assert set(engines) == small | of_model
    unet = engines["unet"]
    assert unet["settings"] == {"level": "3", "refittable": "false"}
    assert unet["layers"] == {"float32": 1}
    assert plan(bundle, unet)["shapes"]["sample"] == [[1, 4, 8, 8], [2, 4, 8, 8], [2, 4, 8, 8]]


def test_static_engines_leave_nothing_open(bundle, tensorrt):
    """Axes are fixed in the network itself: there is no profile."""
    engines = build(bundle, Shapes(static=True))
    assert all(not config._profiles for config in tensorrt.fake.configs)
    assert plan(bundle, engines["unet"])["shapes"]["sample"] == [[2, 4, 8, 8]] * 3


def test_what_the_builder_is_told(bundle, tensorrt):
    build(bundle, level=5, memory_limit=2.5, refittable=True)
    flags = tensorrt.BuilderFlag
    for config in tensorrt.fake.configs:
        assert config.builder_optimization_level == 5
        assert config._limits == {tensorrt.MemoryPoolType.WORKSPACE: 2_500_000_000}
        assert flags.TF32 not in config._flags  # FP32 is FP32
    unet, small = tensorrt.fake.configs[0], tensorrt.fake.configs[-1]
    assert unet._flags == {flags.REFIT}
    assert small._flags == {flags.STRICT_NANS}  # the graphs that look for NaN


def test_settings_make_other_engines(bundle, tensorrt):
    first = build(bundle)["unet"]["file"]
    assert build(bundle)["unet"]["file"] == first
    for options in ({"level": 2}, {"refittable": True}, {"memory_limit": 4.0}):
        assert build(bundle, **options)["unet"]["file"] != first


def test_command_line(bundle, tensorrt):
    arguments = [str(bundle), "--engine", "tensorrt", "--builder-level", "1", "--memory-limit", "3"]
    result = CliRunner().invoke(export, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(bundle / "tensorrt-sm90-10.16.1.11")
    record = json.loads((bundle / "tensorrt-sm90-10.16.1.11" / RECORD).read_text())
    expected = {"level": "1", "refittable": "false", "memory_limit": "3"}
    assert all(one["settings"] == expected for one in record["engines"])


@pytest.mark.parametrize("options", [["--builder-level", "6"], ["--memory-limit", "0"]])
def test_options_out_of_range(bundle, tensorrt, options):
    assert CliRunner().invoke(export, [str(bundle), "--engine", "tensorrt", *options]).exit_code == 2


def test_timings_are_kept(bundle, tensorrt, tmp_path):
    build(bundle)
    (file,) = (tmp_path / "cache/sdrt/tensorrt").iterdir()
    assert file.name == "timings-sm90-10.16.1.11"
    assert file.read_bytes() == b"timings measured"
    build(bundle, level=2)
    assert tensorrt.fake.configs[-1]._cache is not None


def test_timings_of_another_device_are_left_alone(bundle, tensorrt, tmp_path):
    build(bundle)
    tensorrt.fake.devices_cache = b"other"
    build(bundle, level=2)
    (file,) = (tmp_path / "cache/sdrt/tensorrt").iterdir()
    assert file.read_bytes() == b"other measured"


def test_progress_is_told(bundle, tensorrt, monkeypatch):
    monkeypatch.setattr(tensorrt_progress, "SECONDS", 0)
    stages = []
    build(bundle, progress=stages.append)
    assert "unet: Building Engine, 2 of 3" in stages


def test_interrupt_stops_the_build(bundle, tensorrt, monkeypatch):
    steps, told = [], threading.Event()
    stop = tensorrt_progress.BuildProgress.stop
    monkeypatch.setattr(tensorrt_progress.BuildProgress, "stop", lambda self: (stop(self), told.set()))

    def interrupted():
        steps.append(len(steps))
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGINT)  # as the terminal sends it
            told.wait(5)

    tensorrt.fake.while_building = interrupted
    # who started the tests in the background may have switched it off
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build(bundle)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(steps) == 2
    folder = bundle / "tensorrt-sm90-10.16.1.11"
    assert not list(folder.iterdir())


def test_graph_that_the_parser_refuses(bundle, tensorrt):
    tensorrt.fake.errors = ["heads of 40\nare not supported", "nor this"]
    message = (
        r"TensorRT cannot read .*unet/model.onnx: node_7 \(Attention\): heads of 40 are not supported; "
        r"node_7 \(Attention\): nor this$"
    )
    with pytest.raises(ExportError, match=message):
        build(bundle)


def test_build_that_fails(bundle, tensorrt):
    tensorrt.fake.refusal = "Could not find any implementation"
    with pytest.raises(ExportError, match=r"no engine of unet: Could not find any implementation$"):
        build(bundle)
    tensorrt.fake.refusal = "Requested size was 5 GB: CUDA out of memory"
    with pytest.raises(ExportError, match=r"CUDA out of memory; close other .* smaller .*--memory-limit GB$"):
        build(bundle)
    assert not list((bundle / "tensorrt-sm90-10.16.1.11").iterdir())


def half_task(bundle):
    path = graphs.path("step", "float16")
    signature = read_signature(path)
    shape = {name: tuple(axis or 2 for axis in spec.shape) for name, spec in signature[0].items()}
    return EngineTask(
        bundle=Bundle.open(bundle),
        graph="unet",
        path=path,
        digest="",
        signature=signature,
        inputs={name: ShapeRange(one, one, one) for name, one in shape.items()},
        small=False,
    )


def test_half_graph_has_half_layers(bundle, tensorrt, tmp_path):
    builder = open_builder("tensorrt", BuilderOptions())
    layers = builder.build(half_task(bundle), tmp_path / "plan", lambda stage: None)
    assert layers == {"float32": 2, "float16": 1}  # state and count, the next input


@pytest.mark.parametrize("told", ["Float", "Row major linear FP32", "BF16"])
def test_half_graph_that_became_something_else(bundle, tensorrt, tmp_path, told):
    tensorrt.fake.precision = told
    builder = open_builder("tensorrt", BuilderOptions())
    with pytest.raises(ExportError, match=r"the engine of unet has no half layers .*: 3 b?float"):
        builder.build(half_task(bundle), tmp_path / "plan", lambda stage: None)


def test_layers_by_precision():
    def layer(kind, *formats):
        return {"LayerType": kind, "Outputs": [{"Format/Datatype": one} for one in formats]}

    told = {
        "Layers": [
            layer("CaskConvolution", "Channel major FP16 format where channel % 8 == 0"),
            layer("gemm", "Half", "Float"),
            layer("kgen", "Float"),
            layer("kgen", "BF16"),
            layer("kgen", "Int64"),
            layer("Reformat", "Half"),
            layer("NoOp", "Half"),
            "a layer of which only the name is known",
        ]
    }
    assert precisions(told) == {"float16": 2, "float32": 1, "bfloat16": 1, "other": 1}
    assert precisions({}) == {}


def test_ranges_become_a_profile(bundle, tensorrt):
    engines = build(bundle, Shapes(width=Range(64, 96, 128), batch=Range(1, 2, 4)))
    shapes = plan(bundle, engines["unet"])["shapes"]
    assert shapes["sample"] == [[1, 4, 8, 8], [4, 4, 8, 12], [8, 4, 8, 16]]
    assert shapes["timestep"] == [[1], [4], [8]]
    assert plan(bundle, engines["latents"])["shapes"]["scale"] == [[]] * 3
