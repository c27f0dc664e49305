"""The program as a user runs it, and bundles to do harm to."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sdrt.bundle import DEMO
from sdrt.cli import main
from sdrt.manifest import FILE_NAME
from sdrt.pipeline import Pipeline


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory) -> Iterator[Path]:
    """A cache of the tests' own, so that they neither read nor write the user's."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def pipeline(cache_home) -> Pipeline:
    return Pipeline.load()


@pytest.fixture(autouse=True)
def in_tmp_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A copy of the demo bundle, of real files."""
    return Path(shutil.copytree(DEMO, tmp_path / "bundle"))


@pytest.fixture
def edit_manifest(bundle) -> Callable[[Callable[[dict[str, Any]], object]], None]:
    """Rewrite the manifest of `bundle` after a change made in place."""

    def edit(change: Callable[[dict[str, Any]], object]) -> None:
        fields = json.loads((bundle / FILE_NAME).read_text())
        change(fields)
        (bundle / FILE_NAME).write_text(json.dumps(fields))

    return edit


@pytest.fixture
def rehash(bundle, edit_manifest) -> Callable[..., None]:
    """Make the manifest of `bundle` agree with files that were tampered with."""

    def rehash(*names: str) -> None:
        def change(fields: dict[str, Any]) -> None:
            for name in names:
                content = (bundle / name).read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                fields["files"][name] = {"size": len(content), "sha256": digest}

        edit_manifest(change)

    return rehash


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def run_sdrt(tmp_path) -> Callable[..., Result]:
    """The program in a process of its own."""

    def run(*args: str | bytes, timeout: float = 60) -> Result:
        command = [sys.executable, "-m", "sdrt", *args]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=timeout)
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def sdrt_main(monkeypatch, capsys) -> Callable[..., Result]:
    """The program's `main` in this process: quicker, and parts of it can be replaced."""

    def run(*args: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["sdrt", *args])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return Result(end.value.code, out, err)

    return run


@pytest.fixture
def refused(sdrt_main, tmp_path) -> Callable[..., str]:
    """The program ends in one line that has all of `says`, and leaves the disk as it was."""

    def run(*args: str, says: tuple[str, ...], code: int = 2, program: Any = sdrt_main) -> str:
        before = contents(tmp_path)
        result = program(*args)
        assert result.code == code, result.err
        assert result.out == ""
        (line,) = result.err.splitlines()
        assert line.startswith("Error: ")
        assert "this is a bug" not in line
        for words in says:
            assert words in line
        assert contents(tmp_path) == before
        return line

    return run


@pytest.fixture
def graphs_stay_closed(monkeypatch) -> None:
    """Opening any graph fails the test: the program reports it as a bug, which `refused` does not take."""

    def load(self: object, graph: Path, **options: object) -> None:
        raise AssertionError(f"{graph} was opened")

    monkeypatch.setattr("sdrt.backends.onnxruntime.Runtime.load", load)


def contents(folder: Path) -> dict[str, object]:
    """Every file of a folder with what it holds, links as links."""

    def of(path: Path) -> object:
        if path.is_symlink():
            return path.readlink()
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None

    return {str(path.relative_to(folder)): of(path) for path in sorted(folder.rglob("*"))}
