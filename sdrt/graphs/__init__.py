"""The graphs that belong to no model, as files; `sdrt_export.step_graphs` says what each computes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent

Kind = Literal["step", "latents", "pixels"]


def file_name(kind: str, precision: str) -> str:
    """`step.fp32.onnx` and so on."""
    return f"{kind}.{precision}.onnx"


def path(kind: Kind, dtype: str) -> Path:
    """The file of a graph whose network computes in numpy's `dtype`."""
    return FOLDER / file_name(kind, {"float32": "fp32", "float16": "fp16"}[dtype])
