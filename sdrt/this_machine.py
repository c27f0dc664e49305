"""What is compiled or measured on a machine holds for its processor, its GPUs and its libraries."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path


@cache
def cpu() -> str:
    """Model and instructions of this CPU, by which libraries choose their kernels."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        wanted = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU part")
        return "\n".join(sorted({line for line in lines if line.split("\t")[0].strip() in wanted}))
    return f"{platform.machine()} {platform.processor()}"


def cpu_architecture() -> str:
    """Short, for the name of a folder: `cpu-1a2b3c4d`."""
    return f"cpu-{hashlib.sha256(cpu().encode()).hexdigest()[:8]}"


@cache
def gpus() -> tuple[str, ...]:
    """Models of the NVIDIA GPUs, as their driver tells without any library; none on other systems."""
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = []
    for file in files:
        with contextlib.suppress(OSError):
            lines = file.read_text(encoding="utf-8").splitlines()
            models += [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model:")]
    return tuple(models)


def installed_version(package: str) -> str | None:
    """Of a distribution; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
