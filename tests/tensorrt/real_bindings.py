"""NVIDIA's own Python bindings of TensorRT 10 and 11 and of CUDA, imported on a machine that has neither.

The packages are small and on PyPI; `make test` unpacks them into `.venv/bindings`, one folder each, because
both versions of TensorRT have one name. Their extension wants three libraries of gigabytes, but asks them
for nine functions only while it is imported: stub_libraries.c has those.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from bindings_api import Api, read_api

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("SDRT_BINDINGS", Path(sys.prefix) / "bindings"))
VERSIONS = ("10", "11")
_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")


def folder(name: str) -> Path:
    """Where the packages of requirements/<name>.txt are; skips the test if they are not."""
    path = FOLDER / name
    if not path.is_dir():
        pytest.skip(f"{path} is not there; `make test` installs it where there is a wheel for the machine")
    return path


@functools.cache
def api(version: str) -> Api:
    """All that the bindings of TensorRT `10` or `11` have."""
    return read_api(json.loads(run_with_tensorrt(HERE / "describe_bindings.py", version)))


def run_with_tensorrt(script: Path, version: str) -> str:
    """What a script prints in a process of its own that can import `tensorrt_bindings`."""
    packages = folder(version)
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler, cc, to make the libraries that the bindings want")
    with tempfile.TemporaryDirectory() as libraries:
        for name in _LIBRARIES:
            file = f"lib{name}.so.{version}"
            command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{file}", "-o", file, HERE / "stub_libraries.c"]
            subprocess.run(command, cwd=libraries, check=True, capture_output=True, timeout=60)
        return run(script, packages, LD_LIBRARY_PATH=libraries)


def run(script: Path, packages: Path, **environment: str) -> str:
    """What a script prints in a process of its own that finds `packages`."""
    paths = [str(packages), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
