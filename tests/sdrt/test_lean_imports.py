"""The runtime never needs what only the export needs, and the command line starts without numpy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sdrt

HEAVY = {"torch", "diffusers", "transformers", "sdrt_export", "sdrt_bench", "onnx", "onnxscript", "scipy"}
NEED_TORCH = ("aoti", "aoti_weights", "torch_device")  # it is imported when they are used
SOURCES = sorted(Path(sdrt.__file__).parent.rglob("*.py"))


def loaded_after(code: str, cwd: Path) -> set[str]:
    """The top-level modules of a new process after `code`."""
    code += "\nimport sys; print('\\n', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_generating_a_picture(tmp_path):
    code = """
from sdrt.cli import cli
cli.main(["generate", "a cat", "--steps", "1", "-o", "x.png"], standalone_mode=False)
cli.main(["info", "x.png"], standalone_mode=False)
"""
    loaded = loaded_after(code, tmp_path)
    assert (tmp_path / "x.png").is_file()
    assert "onnxruntime" in loaded
    assert not loaded & HEAVY
    assert "rich" not in loaded  # nobody watches


@pytest.mark.parametrize(
    "code",
    [
        "import sdrt; sdrt.__version__",
        "from sdrt.cli import cli; cli.main(['--help'], standalone_mode=False)",
        "from sdrt.cli import cli; cli.main(['--version'], standalone_mode=False)",
    ],
)
def test_quick_starts(tmp_path, code):
    loaded = loaded_after(code, tmp_path)
    assert "sdrt" in loaded
    assert not loaded & (HEAVY | {"numpy", "onnxruntime", "tokenizers", "PIL", "rich"})


@pytest.mark.parametrize("command", ["info", "verify", "samplers"])
def test_commands_that_run_no_graph_load_no_backend(tmp_path, command):
    target = ["ddim"] if command == "samplers" else ["demo"]
    code = f"from sdrt.cli import cli; cli.main({[command, *target]}, standalone_mode=False)"
    assert not loaded_after(code, tmp_path) & (HEAVY | {"onnxruntime", "tokenizers"})


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.name)
def test_no_source_names_them(file):
    assert file.stem in NEED_TORCH or not imported(ast.parse(file.read_text())) & HEAVY


@pytest.mark.parametrize("module", NEED_TORCH)
def test_importing_a_backend_does_not_import_torch(tmp_path, module):
    assert not loaded_after(f"import sdrt.backends.{module}", tmp_path) & HEAVY


def test_public_names():
    for name in sdrt.__all__:
        assert getattr(sdrt, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        sdrt.nothing  # noqa: B018
