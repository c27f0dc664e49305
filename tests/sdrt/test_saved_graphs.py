"""A graph that was saved loads as if it had not been, and whatever is wrong with it is mended unseen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from sdrt import loading, saved_graphs
from sdrt.backends import onnxruntime as backend
from sdrt.pipeline import Pipeline

PROMPT = "a large red circle on a blue background"


@pytest.fixture
def saved(tmp_path, monkeypatch) -> Path:
    """The folder of saved graphs, in which the demo model's graphs are worth saving."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "_WORTH_SAVING", 0)
    return tmp_path / "cache/sdrt/graphs"


@pytest.fixture
def opened(monkeypatch) -> Callable[[], list[Path]]:
    """The graphs of models that onnxruntime opened since it was asked the last time."""
    session, paths = onnxruntime.InferenceSession, []

    def open_session(model, *arguments, **options):
        paths.append(Path(model))
        return session(model, *arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)

    def taken() -> list[Path]:
        found = [path for path in paths if path.name in ("model.onnx", "onnxruntime.onnx")]
        paths.clear()
        return found

    return taken


def picture(**options):
    with Pipeline.load(**options) as loaded:
        return loaded.generate(PROMPT, seed=3, steps=3)[0].pixels


def entries(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.exists() else set()


def inside(folder: Path, paths: list[Path]) -> list[bool]:
    return [folder in path.parents for path in paths]


def test_second_load_opens_what_the_first_saved(saved, opened, pipeline):
    first = picture()
    assert inside(saved, opened()) == [False] * 3
    assert len(entries(saved)) == 3
    second = picture()
    assert inside(saved, opened()) == [True] * 3
    expected = pipeline.generate(PROMPT, seed=3, steps=3)[0].pixels
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, expected)


def test_nobody_else_can_read_or_write_it(saved):
    picture()
    assert saved.stat().st_mode & 0o777 == 0o700


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def overwrite(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def replace(file: Path) -> None:
    """Other content with the size and the times of the old."""
    status = file.stat()
    other = file.with_name("other")
    other.write_bytes(bytes(status.st_size))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize("harm", [truncate, overwrite, replace, Path.unlink])
@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "files.json"])
def test_damaged_is_made_again(saved, opened, pipeline, harm, name):
    picture()
    for entry in saved.iterdir():
        harm(entry / name)
    opened()
    np.testing.assert_array_equal(picture(), pipeline.generate(PROMPT, seed=3, steps=3)[0].pixels)
    assert inside(saved, opened()) == [False] * 3
    picture()
    assert inside(saved, opened()) == [True] * 3
    assert len(entries(saved)) == 3


def test_saved_graph_that_no_longer_loads(saved, pipeline):
    """Whole by its record, and refused by onnxruntime: made again rather than an error."""
    picture()
    for entry in saved.iterdir():
        (entry / "model.onnx").write_bytes(b"\x08\x0a")
        (entry / "files.json").write_text(saved_graphs.json.dumps(saved_graphs._fingerprints(entry)))
    np.testing.assert_array_equal(picture(), pipeline.generate(PROMPT, seed=3, steps=3)[0].pixels)


def test_other_version_and_other_cpu_have_their_own(saved, opened, monkeypatch):
    picture()
    before = entries(saved)
    monkeypatch.setattr(backend, "version", lambda: "0.0")
    picture()
    assert len(entries(saved)) == 6
    monkeypatch.setattr(saved_graphs, "cpu", lambda: "another")
    picture()
    assert len(entries(saved)) == 9
    assert before < entries(saved)
    assert not any(inside(saved, opened()))


def test_other_weights_have_their_own(saved, opened, bundle, rehash):
    picture(bundle=bundle)
    weights = bundle / "unet/model.onnx.data"
    weights.write_bytes(bytes(64) + weights.read_bytes()[64:])
    rehash("unet/model.onnx.data")
    opened()
    picture(bundle=bundle)
    assert sorted(inside(saved, opened())) == [False, True, True]


@pytest.mark.parametrize("options", [{"cache": False}, {"verify": "fast"}])
def test_not_kept(saved, options):
    picture(**options)
    assert entries(saved) == set()


def test_small_models_are_not_worth_it(saved, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(saved.parent.parent))
    picture()
    assert entries(saved) == set()


def test_option(saved, sdrt_main):
    assert sdrt_main("generate", "a cat", "--steps", "1", "--no-cache").code == 0
    assert entries(saved) == set()
    assert sdrt_main("generate", "a cat", "--steps", "1").code == 0
    assert len(entries(saved)) == 3


def test_folder_that_others_may_write_to(saved, opened):
    picture()
    saved.chmod(0o770)
    opened()
    picture()
    assert inside(saved, opened()) == [False] * 3


def test_no_room(saved, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    picture()
    assert entries(saved) == set()


def test_cache_that_cannot_be_made(saved):
    saved.parent.parent.write_text("a file where the folder should be")
    picture()


def test_used_longest_ago_goes_first(saved, monkeypatch):
    picture()
    sizes = {entry: sum(file.stat().st_size for file in entry.iterdir()) for entry in saved.iterdir()}
    oldest, *others = sorted(sizes, key=lambda entry: (entry / "files.json").stat().st_mtime)
    os.utime(oldest / "files.json")  # as if it had been used just now
    monkeypatch.setattr(saved_graphs, "_LIMIT", sizes[oldest] + sizes[others[1]])
    (saved / ".abandoned").mkdir()
    os.utime(saved / ".abandoned", (0, 0))
    saved_graphs._evict(saved)
    assert entries(saved) == {oldest.name, others[1].name}


def test_interrupted_while_saving(saved, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(onnxruntime, "InferenceSession", interrupted)
    with pytest.raises(KeyboardInterrupt):
        picture()
    assert entries(saved) == set()
