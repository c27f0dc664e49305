"""The wheel, installed into an empty environment with only the `cpu` extra, makes a picture."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"


def run(*command, **options):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Built from a copy of the sources: setuptools would leave build/ and egg-info in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "engines", "tests", "docs", "*_cache", "*.egg-info", "build"
    )
    shutil.copytree(ROOT, source, ignore=ignored)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
    return next(folder.glob("*.whl"))


def interpreters():
    found = {f"{version}": shutil.which(f"python{version}") for version in ("3.11", "3.12")}
    for version, path in found.items():
        usable = path is not None and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0
        reason = f"python{version} is not on the path"
        yield pytest.param(path, id=version, marks=pytest.mark.skipif(not usable, reason=reason))


@pytest.mark.parametrize("interpreter", interpreters())
def test_wheel_generates_a_picture_without_torch(interpreter, wheel, tmp_path):
    run(interpreter, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "-c", CONSTRAINTS, f"{wheel}[cpu]")
    installed = {entry["name"] for entry in json.loads(run(python, "-m", "pip", "list", "--format", "json"))}
    assert not installed & {"torch", "diffusers", "transformers", "onnx", "onnxscript"}

    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    sdrt = tmp_path / "venv" / "bin" / "sdrt"
    answer = run(
        sdrt, "generate", "a large red circle on a blue background", "--seed", "1", "-o", "x.png",
        cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert answer == "x.png\n"
    middle, corner = run(
        python,
        "-c",
        "from PIL import Image; i = Image.open('x.png'); w, h = i.size; "
        "print(*i.getpixel((w // 2, h // 2))); print(*i.getpixel((2, 2)))",
        cwd=tmp_path,
    ).splitlines()
    assert brightest_channel(middle) == 0, "the middle is not red"
    assert brightest_channel(corner) == 2, "the background is not blue"


def brightest_channel(pixel):
    channels = [int(value) for value in pixel.split()]
    return channels.index(max(channels))


def test_wheel_holds_all_and_no_more(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "sdrt",
        "sdrt_export",
        "sdrt_bench",
    }
    for needed in (
        "sdrt/demo/sdrt.json",
        "sdrt/graphs/step.fp32.onnx",
        "sdrt/py.typed",
        "sdrt_export/demo/checkpoint/model_index.json",
        "sdrt_export/demo/held_out.json",
    ):
        assert needed in names
