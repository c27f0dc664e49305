"""Engines of a bundle: built, found, chosen and refused. The kind here is a file that names its graph."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdrt.backends.engine_runtime import EngineRuntime
from sdrt.backends.host import HostDevice
from sdrt.backends.onnxruntime import Runtime as OnnxRuntime
from sdrt.bundle import DEMO
from sdrt.errors import BundleError, EngineError, ExportError, InputError
from sdrt.manifest import FILE_NAME
from sdrt.pipeline import Pipeline
from sdrt.profiles import Range
from sdrt_export.engine_shapes import Shapes
from sdrt_export.engines import build_engines
from sdrt_export.staging import locked

PROMPT = "a large red circle on a blue background"


class Builder:
    """Builds 'engines' that say where their graph is."""

    kind = "aoti"

    def __init__(self, *, architecture="sm90", version="1.0", fails=None, settings=None):
        self.architecture, self.version = architecture, version
        self.settings = settings or {}
        self.built = []
        self._fails = fails

    def build(self, task, target, progress):
        target.write_text(str(task.path))
        if task.graph == self._fails:
            raise ExportError("the library refused")
        self.built.append(task.graph)
        return {"float32": 1}


class Runtime(EngineRuntime):
    kind = "aoti"

    def __init__(self, architecture="sm90", version="1.0"):
        super().__init__("aoti:test", HostDevice(), architecture, version)

    def open(self, engine, path, overrides):
        return OnnxRuntime().load(Path(path.read_text()), overrides=overrides)


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(DEMO, tmp_path / "demo"))


def pictures(bundle, runtime, **settings):
    with Pipeline.load(bundle, backend=runtime) as pipeline:
        return [one.pixels for one in pipeline.generate(PROMPT, seed=1, steps=3, **settings)]


def test_engines_make_the_pictures_of_their_graphs(bundle):
    builder = Builder()
    folder = build_engines(bundle, builder, Shapes())
    assert folder == bundle / "aoti-sm90-1.0"
    of_model = ["text_encoder", "unet", "vae_decoder", "vae_encoder"]
    assert sorted(builder.built) == sorted([*of_model, "latents", "pixels", "step"])
    expected = pictures(bundle, OnnxRuntime(), count=3)
    # an engine for one picture makes three, one after the other
    made = pictures(bundle, Runtime(), count=3)
    # onnxruntime itself takes the file with its own attention: sums in another order
    np.testing.assert_allclose(np.asarray(made, float), np.asarray(expected, float), rtol=0, atol=1)
    drawing = bundle / "drawing.png"
    Image.fromarray(expected[0]).save(drawing)
    given = {"init_image": drawing, "strength": 0.7}
    (expected_of_it,) = pictures(bundle, OnnxRuntime(), **given)
    (made_of_it,) = pictures(bundle, Runtime(), **given)
    np.testing.assert_allclose(made_of_it.astype(float), expected_of_it, rtol=0, atol=1)


def test_second_build_has_nothing_to_do(bundle):
    build_engines(bundle, Builder(), Shapes())
    again = Builder()
    said = []
    build_engines(bundle, again, Shapes(), said.append)
    assert again.built == []
    assert "all engines were built already" in said


def test_killed_build_goes_on_where_it_was(bundle):
    with pytest.raises(ExportError, match="refused"):
        build_engines(bundle, Builder(fails="vae_decoder"), Shapes())
    folder = bundle / "aoti-sm90-1.0"
    (folder / ".unet.plan").write_bytes(b"half of one")  # what a killed process leaves
    again = Builder()
    build_engines(bundle, again, Shapes())
    assert "unet" not in again.built and "vae_decoder" in again.built
    assert not list(folder.glob(".*"))


def test_other_settings_replace_other_shapes_stay(bundle):
    build_engines(bundle, Builder(), Shapes())
    folder = build_engines(bundle, Builder(settings={"level": "5"}), Shapes())
    assert len(list(folder.glob("unet.*"))) == 1
    build_engines(bundle, Builder(settings={"level": "5"}), Shapes(width=Range.at(128), height=Range.at(96)))
    assert len(list(folder.glob("unet.*"))) == 2
    small, wide = pictures(bundle, Runtime()), pictures(bundle, Runtime(), width=128, height=96)
    assert (small[0].shape, wide[0].shape) == ((64, 64, 3), (96, 128, 3))


def test_the_engine_of_fewest_shapes_is_taken(bundle, monkeypatch):
    build_engines(bundle, Builder(), Shapes(width=Range(64, 64, 128)))
    build_engines(bundle, Builder(), Shapes(static=True))
    opened = []
    monkeypatch.setattr(
        Runtime,
        "open",
        lambda self, engine, path, overrides: (
            opened.append(engine) or OnnxRuntime().load(Path(path.read_text()))
        ),
    )
    pictures(bundle, Runtime())
    assert {one.profile.width for one in opened if one.graph == "unet"} == {Range.at(64)}
    opened.clear()
    pictures(bundle, Runtime(), width=96)
    assert {one.profile.width for one in opened if one.graph == "unet"} == {Range(64, 64, 128)}


def test_size_without_an_engine(bundle):
    build_engines(bundle, Builder(), Shapes())
    says = r"makes 72x64, only 64x64; ask for that, or build with: .* --engine aoti --width 72 --height 64"
    with pytest.raises(InputError, match=says):
        pictures(bundle, Runtime(), width=72)


def test_static_engines_have_no_unguided_rows(bundle):
    build_engines(bundle, Builder(), Shapes(static=True))
    assert pictures(bundle, Runtime())[0].shape == (64, 64, 3)
    with pytest.raises(InputError, match="2 rows of the U-Net"):
        pictures(bundle, Runtime(), guidance_scale=1.0)


@pytest.mark.parametrize("other", [{"architecture": "sm80"}, {"version": "2.0"}])
def test_engines_of_another_machine_or_version(bundle, other):
    build_engines(bundle, Builder(), Shapes())
    with pytest.raises(EngineError, match=r"only aoti-sm90-1\.0; build with: sdrt export .* --engine aoti$"):
        pictures(bundle, Runtime(**other))


def test_no_engines(bundle):
    with pytest.raises(EngineError, match=r"has no aoti-sm90-1.0, engines for this machine; build with"):
        pictures(bundle, Runtime())


def test_engine_of_another_graph(bundle):
    build_engines(bundle, Builder(), Shapes())
    manifest = json.loads((bundle / FILE_NAME).read_text())
    config = bundle / "unet/config.json"
    config.write_text(config.read_text() + "\n")
    digest = hashlib.sha256(config.read_bytes()).hexdigest()
    manifest["files"]["unet/config.json"] = {"size": config.stat().st_size, "sha256": digest}
    (bundle / FILE_NAME).write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match=r"unet in .* was made from another unet; build with"):
        pictures(bundle, Runtime())
    folder = build_engines(bundle, Builder(), Shapes())
    assert len(list(folder.glob("unet.*"))) == 1
    assert pictures(bundle, Runtime())[0].shape == (64, 64, 3)


def test_engine_that_came_with_a_bundle(bundle, tmp_path):
    build_engines(bundle, Builder(), Shapes())
    foreign = Path(shutil.copytree(bundle, tmp_path / "foreign"))
    with pytest.raises(EngineError, match=r"was not built here.*--engine aoti, or .*--trust-engines"):
        pictures(foreign, Runtime())
    with Pipeline.load(foreign, backend=Runtime(), trust_engines=True) as pipeline:
        assert pipeline.generate(PROMPT, seed=1, steps=1)


def test_damaged_engine(bundle):
    folder = build_engines(bundle, Builder(), Shapes())
    (engine,) = folder.glob("unet.*")
    engine.write_text(engine.read_text()[::-1])
    with pytest.raises(EngineError, match="was not built here"):
        pictures(bundle, Runtime())
    with pytest.raises(BundleError, match="damaged"):
        Pipeline.load(bundle, backend=Runtime(), trust_engines=True)
    engine.unlink()
    with pytest.raises(BundleError, match="missing"):
        pictures(bundle, Runtime())


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"schema": 9, "engines": []}', b'{"schema": 1, "engines": 3}']
)
def test_damaged_record(bundle, content):
    folder = build_engines(bundle, Builder(), Shapes())
    (folder / "engines.json").write_bytes(content)
    with pytest.raises(
        BundleError, match=r"engines.json is no record of engines.*; remove .* and build with"
    ):
        pictures(bundle, Runtime())


def test_record_that_names_a_file_elsewhere(bundle):
    folder = build_engines(bundle, Builder(), Shapes())
    record = (folder / "engines.json").read_text()
    (folder / "engines.json").write_text(record.replace('"unet.n1', '"../unet.n1'))
    with pytest.raises(BundleError, match="no record of engines"):
        pictures(bundle, Runtime())


def test_two_builds_at_once(bundle):
    with locked(bundle), pytest.raises(ExportError, match="another export"):
        build_engines(bundle, Builder(), Shapes())


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (Shapes(width=Range.at(100)), "width 100 is no multiple of 8; the nearest is 96"),
        (Shapes(height=Range(64, 64, 100)), "height 100 is no multiple of 8"),
        (Shapes(width=Range(64, 64, 128), static=True), "--static is for one shape, and width is 64-128"),
    ],
)
def test_shapes_that_do_not_fit(bundle, shapes, message):
    with pytest.raises(InputError, match=message):
        build_engines(bundle, Builder(), shapes)


@pytest.mark.parametrize("text", ["", "x", "1:2", "1:2:3:4", "0", "-8", "3:2:1"])
def test_what_is_no_range(text):
    with pytest.raises(InputError, match="is no range of sizes"):
        Range.parse(text)
