"""What a measurement ran on: without it a figure says nothing."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from sdrt.cli.doctor import gpus
from sdrt.this_machine import installed_version

_PACKAGES = (
    "sdrt", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tokenizers", "torch",
    "diffusers", "transformers",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Processor, cores, memory, system and versions; None for what is not installed or not known."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "gpus": ", ".join(gpus()) or None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: installed_version(name) for name in _PACKAGES},
    }


def write_report(path: Path, command: str, **figures: Any) -> None:
    """Write figures as JSON, with the command that measures them and what they were measured on."""
    report = {"command": command, "machine": describe(), **figures}
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory_gb() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    except (AttributeError, ValueError, OSError):  # no such function, no such name
        return None
