"""`sdrt export` as a user runs it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from sdrt import manifest
from sdrt.bundle import Bundle
from sdrt_export.cli import _stopping_at_stages
from sdrt_export.exporter import export


class Exported(Protocol):
    bundle: Path

    def stage(self, target: Path) -> Path: ...


SDRT = (sys.executable, "-m", "sdrt", "export")


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SDRT, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=300)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_export_writes_a_whole_bundle_the_same_every_time(
    tiny: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    result = run(tiny, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    bundle = tmp_path / "engines" / "tiny"
    assert result.stdout == f"{bundle}\n"
    assert all(
        line.startswith(("reading", "text_", "unet", "vae_", "fitting", "writing", "moving"))
        for line in result.stderr.splitlines()
    )
    assert [path.name for path in bundle.parent.iterdir()] == ["tiny"], "something was left beside the bundle"
    files = files_of(bundle)
    listed = manifest.read(bundle / "sdrt.json").files
    assert listed.keys() | {"sdrt.json"} == files.keys()
    assert {name: entry.size for name, entry in listed.items()} == {name: len(files[name]) for name in listed}
    assert not any(
        path.is_symlink() or path.stat().st_nlink != 1 for path in bundle.rglob("*") if path.is_file()
    )
    assert files == files_of(tiny_bundle), "two exports of one checkpoint differ"


def test_importing_the_command_needs_no_torch() -> None:
    heavy = ("torch", "numpy", "onnx", "rich")
    code = f"import sys, sdrt_export.cli; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_missing_package_names_the_extra(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'onnxscript' else find(name, *more)\n"
    )
    result = subprocess.run(
        [*SDRT, str(tiny)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert result.returncode == 2
    assert "onnxscript is not installed" in result.stderr and "pip install 'sdrt[export]'" in result.stderr


def test_existing_target_is_refused_before_any_work(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "sdrt.json").write_text("{}")
    result = run(tiny, "-o", tmp_path / "b")
    assert result.returncode == 2
    assert "--force" in result.stderr and "Traceback" not in result.stderr and "reading" not in result.stderr


def test_interrupt_exits_130_and_frees_the_lock(tiny: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*SDRT, str(tiny), "-o", str(tmp_path / "b")],
        stderr=subprocess.PIPE,
        text=True,
        # a test run in the background of a shell would hand its ignored SIGINT down
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("text_encoder: exporting"):
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert {path.name for path in tmp_path.iterdir()} <= {".b.sdrt-staging"}


@pytest.fixture
def sigint() -> Iterator[Callable[[signal.Handlers | Callable[..., object]], object]]:
    """Set how this process takes SIGINT, for the length of a test."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


def test_ignored_interrupts_stay_ignored(sigint: Callable[..., object]) -> None:
    sigint(signal.SIG_IGN)
    with _stopping_at_stages(lambda stage: None):
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_interrupt_that_a_library_swallows_stops_at_the_next_stage(sigint: Callable[..., object]) -> None:
    sigint(signal.default_int_handler)
    seen: list[str] = []
    with _stopping_at_stages(seen.append) as stage:
        stage("one")
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            stage("two")
    assert seen == ["one"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--opset", "9"], "choose 18 to 23"),
        (["--precision", "fp16", "--half-weights"], "--half-weights is for --precision fp32"),
    ],
)
def test_wrong_settings_are_refused(tiny: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    result = run(tiny, "-o", tmp_path / "b", *arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_kills_leave_the_old_bundle_or_the_new(
    tiny: Path, exported: Exported, tmp_path: Path
) -> None:
    """SIGKILL an export over a bundle at random moments, from the first graph to the last clean-up.

    Two checkpoints that differ in name alone take turns, so that it shows whose bundle is there. Every other
    export finds all graphs finished: then the kill falls on the manifest, the swap and the cleaning.
    """
    sources = [tiny, shutil.copytree(tiny, tmp_path / "other")]
    target = shutil.copytree(exported.bundle, tmp_path / "bundle")
    staging = tmp_path / ".bundle.sdrt-staging"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sdrt_export.filling", "sdrt_export.sources"])
    whole = {False: 20.0, True: 1.0}  # seconds; follows the slowest export that ran to its end
    chance = random.Random(0)
    kills = {False: 0, True: 0}
    seen = set()
    while sum(kills.values()) < 100:
        late = kills[True] <= kills[False]
        if late:
            shutil.rmtree(staging, ignore_errors=True)
            exported.stage(target)
        source = str(chance.choice(sources))
        process = context.Process(target=export, args=(source, target), kwargs={"force": True})
        started = time.monotonic()
        process.start()
        process.join(chance.uniform(0, whole[late]))
        process.kill()
        process.join()
        if process.exitcode == 0:
            whole[late] = max(whole[late], time.monotonic() - started)
        kills[late] += process.exitcode == -signal.SIGKILL
        bundle = Bundle.open(target, verify="full")
        assert files_of(target).keys() == bundle.manifest.files.keys() | {"sdrt.json"}
        seen.add(bundle.manifest.made_by.source)
    assert seen == set(map(str, sources)), "the bundle was never replaced"
    export(str(tiny), target, force=True)
    assert manifest.read(target / "sdrt.json").files == manifest.read(exported.bundle / "sdrt.json").files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "other"]
