"""A bundle, and a GPU that is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fake_cuda
import fake_tensorrt
import pytest

from sdrt.bundle import DEMO
from sdrt_export.engine_builders import BuilderOptions, open_builder
from sdrt_export.engine_shapes import Shapes
from sdrt_export.engines import build_engines


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory) -> Iterator[Path]:
    """A cache of the tests' own, so that they neither read nor write the user's."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture
def cuda(monkeypatch) -> fake_cuda.FakeCuda:
    """A fake GPU of architecture sm90."""
    made = fake_cuda.FakeCuda()
    fake_cuda.install(monkeypatch, made)
    return made


@pytest.fixture
def tensorrt(monkeypatch, cuda):
    """A fake TensorRT 10.16 on it."""
    return fake_tensorrt.install(monkeypatch, cuda)


def build_once(folder: Path, options: BuilderOptions) -> Path:
    """A copy of the demo bundle with engines; the cache says that they were built here."""
    bundle = Path(shutil.copytree(DEMO, folder / "demo"))
    with pytest.MonkeyPatch.context() as patch:
        made = fake_cuda.FakeCuda()
        fake_cuda.install(patch, made)
        fake_tensorrt.install(patch, made)
        build_engines(bundle, open_builder("tensorrt", options), Shapes())
    return bundle


@pytest.fixture(scope="session")
def built(tmp_path_factory, cache_home) -> Path:
    """For one picture of the demo's size. Not to be changed."""
    return build_once(tmp_path_factory.mktemp("built"), BuilderOptions())


@pytest.fixture(scope="session")
def refittable(tmp_path_factory, cache_home) -> Path:
    """The same, for LoRA. Not to be changed."""
    return build_once(tmp_path_factory.mktemp("refittable"), BuilderOptions(refittable=True))


@pytest.fixture
def bundle(tmp_path, monkeypatch) -> Path:
    """A copy of the demo bundle, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(DEMO, tmp_path / "demo"))
