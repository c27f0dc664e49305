"""How a bundle takes its place."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sdrt.errors import ExportError, InputError
from sdrt_export import filesystem
from sdrt_export.staging import check_target, resolve, staging


def commit(target: Path, text: str, *, force: bool = True) -> None:
    with staging(target, force=force) as place:
        (place.bundle / "sdrt.json").write_text(text)
        place.commit()


@pytest.fixture(params=["exchange", "two renames"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with renameat2 and as on a system that lacks it."""
    if request.param == "two renames":
        monkeypatch.setattr(filesystem, "_renameat2", lambda *_: False)
    return str(request.param)


def test_commit_creates_and_replaces(tmp_path: Path, swap: str) -> None:
    target = tmp_path / "new" / "b"
    for text in ("first", "second"):
        commit(target, text)
        assert (target / "sdrt.json").read_text() == text
        assert [path.name for path in target.parent.iterdir()] == ["b"]


def test_what_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat.png").write_bytes(b"")
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    for name in ("pictures", "file", "empty"):
        with pytest.raises(InputError):
            check_target(tmp_path / name, force=True)
    assert (tmp_path / "pictures" / "cat.png").exists()


def test_target_that_appears_meanwhile_is_not_overwritten(tmp_path: Path, swap: str) -> None:
    with staging(tmp_path / "b", force=False) as place:
        (place.bundle / "sdrt.json").write_text("new")
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "precious").write_text("")
        with pytest.raises(InputError):
            place.commit()
    assert (tmp_path / "b" / "precious").exists()


def test_symlink_is_followed(tmp_path: Path) -> None:
    commit(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    commit(resolve(tmp_path / "link"), "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "sdrt.json").read_text() == "new"


def test_second_export_fails_at_once_and_names_the_first(tmp_path: Path) -> None:
    with staging(tmp_path / "b", force=False):
        started = time.monotonic()
        with pytest.raises(ExportError, match=f"process {os.getpid()}"), staging(tmp_path / "b", force=False):
            pass
        assert time.monotonic() - started < 1
        with staging(tmp_path / "c", force=False):
            pass
    with staging(tmp_path / "b", force=False):
        pass


def test_lock_does_not_survive_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from sdrt_export.staging import staging\n"
        "with staging(pathlib.Path(sys.argv[1]), force=False): print('locked', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "b")], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"locked\n"
    with pytest.raises(ExportError, match=f"process {process.pid}"), staging(tmp_path / "b", force=False):
        pass
    process.kill()
    process.wait()
    commit(tmp_path / "b", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_old_bundle_comes_back_after_a_kill_between_two_renames(tmp_path: Path) -> None:
    commit(tmp_path / "b", "old")
    root = tmp_path / ".b.sdrt-staging"
    root.mkdir()
    (tmp_path / "b").rename(root / "old")
    with pytest.raises(InputError, match="--force"), staging(tmp_path / "b", force=False):
        pass
    assert (tmp_path / "b" / "sdrt.json").read_text() == "old"


def test_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write to"), staging(tmp_path / "file" / "b", force=False):
        pass


COMMITTER = """
import itertools, sys
from pathlib import Path
from sdrt_export import filesystem
from sdrt_export.staging import staging
if sys.argv[2] == "two renames":
    filesystem._renameat2 = lambda *_: False
for number in itertools.count():
    with staging(Path(sys.argv[1]), force=True) as place:
        for name in ("a", "b", "sdrt.json"):
            (place.bundle / name).write_text(f"{number} " * 500)
        place.commit()
    print(number, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_bundle(tmp_path: Path, swap: str) -> None:
    """SIGKILL a process that commits bundles in a row; all files of one bundle hold the same number."""
    target = tmp_path / "b"
    chance = random.Random(0)
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", COMMITTER, str(target), swap], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if swap == "two renames" and not target.exists():
            with staging(target, force=True):  # what the next export does first
                pass
        texts = {path.name: path.read_text() for path in target.iterdir()}
        assert texts.keys() == {"a", "b", "sdrt.json"}
        assert len(set(texts.values())) == 1
    commit(target, "last")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
