"""Every Python example of the documentation runs, on the demo model."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import lora_files
import numpy as np
import pytest
from safetensors.numpy import save_file

from sdrt.bundle import DEMO

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(example, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, example in enumerate(EXAMPLE.findall(page.read_text()), 1)
]


def test_there_are_examples():
    assert len(EXAMPLES) >= 5


@pytest.fixture
def folder(tmp_path):
    """Where the pages' files are: the demo model stands in for anybody's own."""
    shutil.copytree(DEMO, tmp_path / "engines" / "my-model")
    query = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    width = 64
    factors = lora_files.random_factors({query: (width, width)}, 4)
    lora_files.write(tmp_path / "style.safetensors", lora_files.kohya({"unet": factors}))
    for name in ("learned_embeds", "ink"):
        save_file({f"<{name}>": np.zeros((1, 128), np.float32)}, tmp_path / f"{name}.safetensors")
    return tmp_path


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_runs(example, folder, monkeypatch):
    if "optimum" in example:
        pytest.importorskip("optimum.onnxruntime")
    monkeypatch.chdir(folder)
    exec(compile(example, "example", "exec"), {"__name__": "example"})
