"""sdrt's calls of TensorRT and CUDA exist: in the real bindings of both versions, and of CUDA."""

from __future__ import annotations

import ast
import json
import re
import textwrap

import api_uses
import cuda_uses
import fake_cuda
import fake_tensorrt
import make_typings
import pytest
from bindings_api import shared
from real_bindings import HERE, VERSIONS, api, folder, run, run_with_tensorrt


@pytest.fixture(scope="module")
def cuda_names():
    return json.loads(run(HERE / "describe_cuda.py", folder("cuda")))


def using(prefix: str):
    return [path for path in make_typings.sources() if prefix in path.read_text()]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_sdrt_calls_is_there(version):
    """Also a count of what was looked at, so that a checker that sees nothing does not pass."""
    bindings = api(version)
    assert bindings.version.startswith(f"{version}.")
    seen = set()
    for path in using("trt."):
        assert api_uses.misuses(path.read_text(), bindings) == [], path
        seen |= api_uses.mentioned(path.read_text())
    assert len(seen) > 20


@pytest.mark.parametrize(
    ("code", "only_in_10", "found"),
    [
        ("trt.BuilderFlag.FP16", True, "no BuilderFlag.FP16"),
        ("trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH", True, "no NetworkDefinitionCreationFlag.EXPLIC"),
        ("trt.IInt8EntropyCalibrator2()", True, "no IInt8EntropyCalibrator2"),
        ("engine.device_memory_size", True, "ICudaEngine has no device_memory_size"),
        ("engine.create_execution_context_without_device_memory()", True, "ICudaEngine has no create_exec"),
        ("trt.Builder(log).platform_has_fast_fp16", True, "Builder has no platform_has_fast_fp16"),
        ("trt.BuilderFlag.REFITT", False, "no BuilderFlag.REFITT"),
        ("trt.OnnxParserr(1, 2)", False, "no OnnxParserr"),
        ("engine.create_execution_context().execute_async_v4(0)", False, "has no execute_async_v4"),
        ("engine.create_execution_context().set_input_shape('x')", False, "set_input_shape takes no 1"),
        ("engine.create_execution_context().execute_async_v3(stream=0)", False, r"takes no 0 .*'stream'"),
        (
            "config = trt.Builder(log).create_builder_config()\n    config.max_aux_stream = 0",
            False,
            "has no max_",
        ),
        ("engine.refittable = True", False, "ICudaEngine.refittable cannot be set"),
        ("trt.Refitter(engine)", False, "Refitter.__init__ takes no 1"),
    ],
)
def test_wrong_uses_are_found(code, only_in_10, found):
    source = f"import tensorrt as trt\ndef f(engine: trt.ICudaEngine, log: trt.ILogger):\n    {code}\n"
    for version in VERSIONS:
        misuses = api_uses.misuses(source, api(version))
        if version == "10" and only_in_10:
            assert misuses == []
        else:
            (misuse,) = misuses
            assert re.search(found, misuse)


def test_every_misspelt_name_is_found():
    """Each `trt.X` and `trt.X.Y` of sdrt's own sources, with one letter more."""
    both, tried = shared(*map(api, VERSIONS)), 0
    for path in using("trt."):
        source = path.read_text()
        lines = source.splitlines(keepends=True)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("trt."):
                line, end = lines[node.end_lineno - 1], node.end_col_offset
                wrong = [*lines]
                wrong[node.end_lineno - 1] = f"{line[:end]}x{line[end:]}"
                assert api_uses.misuses("".join(wrong), both), (
                    f"{path.name}:{node.lineno} {ast.unparse(node)}"
                )
                tried += 1
    assert tried > 50


def test_class_with_a_method_that_tensorrt_does_not_call():
    source = textwrap.dedent(
        """
        class Monitor(trt.IProgressMonitor):
            def step_completed(self, phase_name, step): ...
            def phase_start(self, phase_name, num_steps): ...
        """
    )
    assert api_uses.misuses(source, api("11")) == [
        "IProgressMonitor calls no step_completed with 2 arguments",
        "IProgressMonitor calls no phase_start with 2 arguments",
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_tensorrt_calls_back(version):
    """Log and progress monitor are classes made from NVIDIA's own; FP16 arrays are its half weights."""
    said = run_with_tensorrt(HERE / "be_called_back.py", version).splitlines()
    assert said[0].startswith(f"{version}.")
    assert said[1:] == [
        "said as ERROR",
        "unet: Timing, 1 of 3",
        "True",
        "unet: Timing, 2 of 3",
        "False",
        "6 True",
        "True [2, -1]",
    ]


def test_typings_are_up_to_date():
    assert make_typings.TYPINGS.read_text() == make_typings.typings()


def test_typings_have_only_what_both_versions_have():
    text = make_typings.TYPINGS.read_text()
    for only_in_10 in ("FP16", "EXPLICIT_BATCH", "device_memory_size(", "platform_has_fast_fp16"):
        assert only_in_10 not in text


def test_cuda_calls_are_there(cuda_names):
    paths = using("runtime.cuda")
    assert {path.name for path in paths} >= {"cuda.py", "cuda_calls.py", "cuda_memory.py"}
    for path in paths:
        assert cuda_uses.misuses(path.read_text(), cuda_names) == [], path


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("runtime.cudaMallocc(5)", "no cudaMallocc"),
        ("runtime.cudaMalloc(5, 6)", "cudaMalloc takes ['size'], not 2 arguments"),
        ("runtime.cudaMemcpyKind.cudaMemcpyHostToDevic", "no runtime.cudaMemcpyKind.cudaMemcpyHostToDevic"),
        ("kind = runtime.cudaMemcpyKind\nkind.cudaMemcpyUp", "no kind.cudaMemcpyUp"),
    ],
)
def test_wrong_cuda_calls_are_found(cuda_names, code, found):
    assert cuda_uses.misuses(code, cuda_names) == [found]


def test_cuda_without_a_gpu_answers_as_expected():
    """The real bindings import without a driver, and say so in the way that the device reads."""
    script = HERE / "open_device.py"
    said = run(script, folder("cuda"))
    assert said == "opened\n" or said.startswith("BackendUnavailableError: no NVIDIA GPU that CUDA can use: ")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fake_has_nothing_that_the_library_has_not(version):
    """Every public method and property of the fake's classes, with the same names of parameters."""
    real = api(version).classes
    made = fake_tensorrt.make_tensorrt(fake_cuda.FakeCuda(), "0")
    for name, cls in vars(made).items():
        if isinstance(cls, type):
            for key in vars(cls):
                if not key.startswith("_"):
                    assert has(real, name, key, vars(cls)[key]), f"{name}.{key}"


def has(real, name, key, value):
    one = real[name]
    if one.members is not None:
        return key in one.members
    if isinstance(value, type):
        return f"{name}.{key}" in real
    if isinstance(value, property):
        return key in one.properties
    names = value.__code__.co_varnames[1 : value.__code__.co_argcount]
    return any([given for given, _ in overload.parameters] == list(names) for overload in one.methods[key])


def test_the_fake_gpu_has_nothing_that_cuda_has_not(cuda_names):
    made = fake_cuda.FakeCuda()
    for name in dir(made):
        if name.startswith("cuda"):
            code = getattr(made, name).__code__
            assert cuda_names["functions"][name] == list(code.co_varnames[1 : code.co_argcount]), name
