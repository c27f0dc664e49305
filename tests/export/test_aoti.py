"""Engines of AOTInductor on the CPU: the pictures of onnxruntime, also with LoRAs, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lora_files
import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import save_file

from sdrt import graphs
from sdrt.backends import aoti, open_runtime
from sdrt.backends.onnxruntime import Runtime as OnnxRuntime
from sdrt.backends.torch_device import Repeated
from sdrt.bundle import Bundle, sha256
from sdrt.engines import EngineFolder, built_here
from sdrt.errors import (
    BackendUnavailableError,
    ComputeError,
    EngineError,
    ExportError,
    InputError,
    MissingExtraError,
)
from sdrt.lora.overrides import read_parameters
from sdrt.manifest import FILE_NAME
from sdrt.pipeline import Pipeline
from sdrt.profiles import Range
from sdrt.verified import VerifiedFiles
from sdrt_export import engines, export, step_graphs
from sdrt_export.engine_builders import BuilderOptions, open_builder
from sdrt_export.engine_shapes import Shapes
from sdrt_export.engines import build_engines

torch = pytest.importorskip("torch")

FAST = {"steps": 3, "seed": 1, "guidance_scale": 3.0}
PROMPT = "the red"


def has_compiler() -> bool:
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


compiles = pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
cpu_only = pytest.mark.skipif(torch.cuda.is_available(), reason="engines are built for the GPU here")


def psnr(a, b) -> float:
    error = np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


class Mixed(aoti.Runtime):
    """Runs the engines that there are, and the other graphs with onnxruntime."""

    def load(self, graph, **options):
        try:
            return super().load(graph, **options)
        except EngineError as error:
            if "has no engine of" not in str(error):
                raise
            return OnnxRuntime().load(graph, **options)

    def pictures_at_once(self, width, height):
        return 1  # what the step is for


@dataclass(frozen=True)
class Built:
    """runtime: opens the backend."""

    bundle: Path
    folder: Path
    runtime: Callable[[], aoti.Runtime]


# compiling takes 8 s for the smallest graph: most tests have engines of two graphs, the slow ones of all
SOME = ("text_encoder", "step")
MACHINES = [
    pytest.param("some", marks=cpu_only),
    pytest.param("whole", marks=[cpu_only, pytest.mark.slow]),
    pytest.param(
        "gpu",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no NVIDIA GPU"),
        ],
    ),
]


def build(bundle: Path, **shapes) -> Path:
    return build_engines(bundle, open_builder("aoti", BuilderOptions()), Shapes(**shapes), jobs=2)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Where it stands what was built here."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session", params=MACHINES)
def built(request, tiny_bundle, cache, tmp_path_factory):
    """The tiny bundle with engines for pictures 64 to 96 wide; built once, so nothing may change it."""
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("aoti") / "tiny"))
    shapes = {"width": Range(64, 64, 96)}
    if request.param != "some":
        return Built(bundle, build(bundle, **shapes), aoti.Runtime)
    with pytest.MonkeyPatch.context() as patch:
        tasks = engines._tasks
        patch.setattr(engines, "_tasks", lambda *args: (one for one in tasks(*args) if one.graph in SOME))
        return Built(bundle, build(bundle, **shapes), Mixed)


@pytest.fixture
def copy(built, cache, tmp_path):
    """One to do harm to; its engines count as built here."""
    bundle = Path(shutil.copytree(built.bundle, tmp_path / "copy"))
    folder = bundle / built.folder.name
    remembered = VerifiedFiles(built_here())
    for engine in EngineFolder.at(folder).read():
        remembered.add(folder / engine.file, engine.sha256)
    remembered.save()
    return Built(bundle, folder, built.runtime)


def pictures(bundle: Path, backend, *, prompt=PROMPT, loras=(), embeddings=(), **settings):
    with Pipeline.load(bundle, backend=backend, loras=loras, embeddings=embeddings) as pipeline:
        return [one.pixels for one in pipeline.generate(prompt, **FAST | settings)]


def ours(built: Built, **settings):
    return pictures(built.bundle, built.runtime(), **settings)


def assert_same(built: Built, floor=50.0, **settings):
    """At least 50 dB from onnxruntime's; pictures of two seeds are at 10."""
    made = ours(built, **settings)
    theirs = pictures(built.bundle, "onnxruntime", **settings)
    assert min(psnr(a, b) for a, b in zip(made, theirs, strict=True)) >= floor
    return made


@compiles
@pytest.mark.parametrize(
    "settings",
    [{}, {"guidance_scale": 1.0}, {"width": 96}, {"count": 2, "sampler": "euler_a", "negative_prompt": "a"}],
    ids=["guided", "one row", "wide", "two pictures"],
)
def test_pictures_are_those_of_onnxruntime(built, settings):
    assert_same(built, **settings)


@compiles
@cpu_only
@pytest.mark.slow
def test_fp16(tiny, cache, tmp_path):
    """60 dB was seen: onnxruntime's CPU kernels round less often than FP16 does."""
    bundle = export(str(tiny), tmp_path / "half", precision="fp16", verify=False)
    folder = build(bundle)
    built = Built(bundle, folder, aoti.Runtime)
    assert_same(built, floor=45.0)
    (unet,) = (one for one in EngineFolder.at(folder).read() if one.graph == "unet")
    assert unet.layers.keys() == {"float16"}


def lora_file(bundle, folder):
    """For layers of both networks that are stored in every way: transposed, as they are, as a convolution."""
    parts = {"unet": ("to_q", "to_k", "to_v", "conv1", "time_emb_proj"), "text_encoder": ("fc1", "q_proj")}
    factors = {}
    for component, ends in parts.items():
        shapes = {
            name.removesuffix(".weight"): shape
            for name, shape in read_parameters(bundle / component / "model.onnx").items()
            if name.removesuffix(".weight").endswith(ends) and name.endswith(".weight")
        }
        assert shapes
        factors[component] = lora_files.random_factors(shapes, 4, alpha=40.0)
    return lora_files.write(folder / "style.safetensors", lora_files.kohya(factors))


@compiles
def test_lora(built, tmp_path):
    lora = lora_file(built.bundle, tmp_path)
    changed = assert_same(built, loras=[(lora, 0.7)])
    assert psnr(changed[0], ours(built)[0]) < 40.0


@compiles
def test_words_of_textual_inversion(built, tmp_path):
    width = read_parameters(built.bundle / "text_encoder/model.onnx")["final_layer_norm.weight"][0]
    vectors = np.random.default_rng(0).normal(size=(2, width)).astype(np.float32)
    save_file({"emb_params": vectors}, tmp_path / "style.safetensors")
    assert_same(built, embeddings=[(tmp_path / "style.safetensors", "<style>")], prompt="a <style>")


@compiles
def test_packages_hold_no_weights(built):
    runtime = built.runtime()
    with Pipeline.load(built.bundle, backend=runtime):
        assert runtime._shared
    assert not runtime._shared  # freed with the pipeline
    (engine,) = (one for one in EngineFolder.at(built.folder).read() if one.graph == "text_encoder")
    with zipfile.ZipFile(built.folder / engine.file) as package:
        names = package.namelist()
    assert any(name.endswith(".so") for name in names)
    assert not any("weight" in name and package.getinfo(name).file_size > 1000 for name in names)
    assert engine.layers.keys() == {"float32"}


@compiles
def test_what_was_captured_is_found_again(built, monkeypatch):
    """Over a stand-in for CUDA graphs, which runs what was captured."""
    captured = []

    class Graph:
        def __init__(self, work):
            self.replay = work
            captured.append(self)

    bundle = Bundle.open(built.bundle)
    runtime = built.runtime().for_bundle(bundle)
    monkeypatch.setattr(runtime.device, "capture", Graph)
    graph = runtime.load(bundle.path / "text_encoder/model.onnx")
    specs = {**graph.inputs, **graph.outputs}

    def buffers():
        return {
            name: runtime.device.empty(tuple(axis or 1 for axis in spec.shape), spec.dtype)
            for name, spec in specs.items()
        }

    def states(bound, ids):
        graph.bind(bound)
        runtime.device.upload(ids, bound["input_ids"])
        for _ in range(2):
            graph.run()
        return runtime.device.download(bound["last_hidden_state"])

    one, other = buffers(), buffers()
    ids = np.arange(77)[None]
    first = states(one, ids)
    assert np.abs(states(other, ids[:, ::-1]) - first).max() > 0.1
    np.testing.assert_array_equal(states(one, ids), first)
    assert len(captured) == 2


@compiles
def test_size_without_an_engine(built):
    with pytest.raises(InputError, match=r"no aoti engine of .*ask for that, or build with: sdrt export"):
        ours(built, height=128)


@compiles
def test_engines_of_another_version(built, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    with pytest.raises(EngineError, match=r"has no aoti-.*-9\.9\.9, .*only aoti-.*; build with: sdrt export"):
        ours(built)


@compiles
def test_package_that_torch_refuses(copy):
    """One that was built here, as far as its record says."""
    (file,) = copy.folder.glob("text_encoder*")
    file.write_bytes(file.read_bytes()[:1000])
    (engine,) = (one for one in EngineFolder.at(copy.folder).read() if one.file == file.name)
    remembered = VerifiedFiles(built_here())
    remembered.add(file, engine.sha256)
    remembered.save()
    with pytest.raises(EngineError, match=r"torch cannot load .*text_encoder.*pt2"):
        ours(copy)


@compiles
@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1474560000 bytes.",
            "wanted 1.5 GB",
        ),
        ("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total", "wanted 2.7 GB"),
        ("CUDA error: out of memory", "wanted more"),
    ],
)
def test_out_of_memory(built, monkeypatch, said, told):
    def run(self):
        raise RuntimeError(f"{said}\nframe #0: c10::something")

    with Pipeline.load(built.bundle, backend=built.runtime()) as pipeline:
        monkeypatch.setattr(Repeated, "run", run)
        with pytest.raises(ComputeError, match=f"out of memory: .* {told}.*; lower the width and height"):
            pipeline.generate(PROMPT, **FAST)


@compiles
def test_foreign_package_is_not_run(copy, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another user"))
    monkeypatch.setattr(aoti, "load_package", lambda path: pytest.fail("its code was run"))
    with pytest.raises(EngineError, match="was not built here"):
        ours(copy)


@pytest.mark.parametrize("name", step_graphs.all_graphs())
def test_small_graphs_as_modules(name):
    """What torch is given to compile computes what onnxruntime does."""
    from sdrt_export.aoti_small import SmallGraph

    path = graphs.FOLDER / name
    module = SmallGraph(path)
    sizes = {"rows": 3, "given_rows": 2, "samples": 2, "rows_per_sample": 2}
    sizes |= {"channels": 4, "height": 5, "width": 6}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {}
    for value in session.get_inputs():
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in value.shape]
        dtype = {"float": np.float32, "float16": np.float16, "int64": np.int64}[value.type[7:-1]]
        feeds[value.name] = (
            rng.integers(0, 2, shape) if dtype == np.int64 else rng.normal(size=shape)
        ).astype(dtype)
    expected = session.run(None, feeds)
    ours = module(**{key: torch.from_numpy(np.asarray(value)) for key, value in feeds.items()})
    for a, b in zip(ours, expected, strict=True):
        assert a.numpy().dtype == b.dtype
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-5 if b.dtype == np.float32 else 1e-3, atol=1e-5)


@cpu_only
def test_a_gpu_that_is_not_there():
    with pytest.raises(BackendUnavailableError, match="sees no NVIDIA GPU; take --backend aoti:cpu"):
        open_runtime("aoti:cuda")
    assert open_runtime("aoti").name == open_runtime("aoti:cpu").name == "aoti:cpu"


def test_torch_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sdrt\[aoti\]'"):
        open_runtime("aoti")


@cpu_only
@pytest.mark.parametrize("options", [{"level": 4}, {"memory_limit": 1.0}])
def test_options_for_other_engines(options):
    with pytest.raises(InputError, match=r"AOTInductor has .*--(builder-level|memory-limit)"):
        open_builder("aoti", BuilderOptions(**options))


def test_no_compiler(monkeypatch):
    from torch._inductor import cpp_builder, exc

    def search(_):
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "cpp_compiler_search", search)
    with pytest.raises(BackendUnavailableError, match=r"needs a C\+\+ compiler .* install g\+\+"):
        open_builder("aoti", BuilderOptions())


@compiles
def test_graphs_without_names_of_parameters(tiny_bundle, cache, tmp_path):
    """As other exporters write them."""
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "other"))
    graph = bundle / "unet/model.onnx"
    graph.write_bytes(graph.read_bytes().replace(b"attn2.to_q", b"attn2.xx_q"))
    manifest = json.loads((bundle / FILE_NAME).read_text())
    manifest["files"]["unet/model.onnx"]["sha256"] = sha256(graph)
    (bundle / FILE_NAME).write_text(json.dumps(manifest))
    with pytest.raises(
        ExportError, match=r"has no weight .*attn2\.to_q\.weight .*export the checkpoint itself"
    ):
        build(bundle)
