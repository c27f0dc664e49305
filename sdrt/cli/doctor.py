"""`sdrt doctor`."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import sdrt
from sdrt.cli.terminal import echo, echo_json
from sdrt.errors import MissingExtraError, SdrtError

if TYPE_CHECKING:
    from sdrt.manifest import Manifest

_EXTRAS = {
    "cpu": ("onnxruntime",),
    "cuda": ("onnxruntime-gpu", "cuda-python"),
    "tensorrt": ("tensorrt",),
    "openvino": ("openvino",),
    "export": ("torch", "diffusers", "transformers", "safetensors", "onnx", "onnxscript"),
}
_BASE = ("numpy", "tokenizers", "pillow", "click", "rich", "msgspec")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def doctor(as_json: bool) -> None:
    """Show what is installed, what is missing and the command that installs it.

    Exits 1 if nothing that could run a graph is installed.
    """
    report = examine()
    if as_json:
        echo_json(report)
    else:
        for line in _lines(report):
            echo(line)
    if not report["can_generate"]:
        click.get_current_context().exit(1)


def examine() -> dict[str, Any]:
    """What this machine has, as `sdrt doctor --json` prints it."""
    from sdrt.models import ENGINES, exported_bundles
    from sdrt.saved_graphs import saved_graphs_folder, saved_size
    from sdrt.this_machine import installed_version
    from sdrt.verified import cache_folder

    graphs = saved_graphs_folder()
    packages = {name: installed_version(name) for names in (_BASE, *_EXTRAS.values()) for name in names}
    providers, backends = _providers(), _backends()
    return {
        "sdrt": sdrt.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "gpus": gpus(),
        "packages": packages,
        "execution_providers": providers,
        "backends": backends,
        "can_generate": any(_runs_something(name) for name in backends.values()),
        "can_export": all(packages[name] for name in _EXTRAS["export"]),
        "models": exported_bundles(),
        "auto": dict(_choices()),
        "disk_free_gb": {
            str(folder): round(shutil.disk_usage(_existing(folder)).free / 1e9, 1)
            for folder in (ENGINES.absolute(), cache_folder())
        },
        "saved_graphs_gb": {str(graphs): round(saved_size(graphs) / 1e9, 1)},
        "mend": list(_mend(packages)),
    }


def _mend(packages: dict[str, str | None]) -> Iterator[str]:
    if packages["onnxruntime"] and packages["onnxruntime-gpu"]:
        yield (
            "onnxruntime and onnxruntime-gpu overwrite each other: "
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'sdrt[cuda]'"
        )
    if not any(packages[name] for name in ("onnxruntime", "onnxruntime-gpu", "openvino")):
        yield "to generate pictures: pip install 'sdrt[cpu]'"
    missing = [name for name in _EXTRAS["export"] if not packages[name]]
    if missing:
        yield f"to export checkpoints ({', '.join(missing)} missing): pip install 'sdrt[export]'"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    memory = f", {report['memory_gb']} GB memory" if report["memory_gb"] else ""
    yield f"sdrt {report['sdrt']}, Python {report['python']}, {report['system']}"
    yield f"{report['cores']} cores{memory}"
    for gpu in report["gpus"]:
        yield f"GPU: {gpu}"
    if not report["gpus"]:
        yield "GPU: none found (nvidia-smi)"
    for name, version in report["packages"].items():
        yield f"  {name:18} {version or 'not installed'}"
    yield f"execution providers: {', '.join(report['execution_providers']) or 'none'}"
    named = (name if name == taken else f"{name} ({taken})" for name, taken in report["backends"].items())
    yield f"backends: {', '.join(named) or 'none'}"
    yield f"models: {', '.join(report['models'])}"
    for model, choice in report["auto"].items():
        yield f"  {model}: --backend auto is {choice['backend']}, {choice['why']}"
    for folder, free in report["disk_free_gb"].items():
        yield f"{free} GB free for {folder}"
    for folder, size in report["saved_graphs_gb"].items():
        yield f"{size} GB of optimised graphs in {folder}; deleting it makes the next load slower"
    for task in ("generate", "export"):
        yield f"can {task}: {'yes' if report[f'can_{task}'] else 'no'}"
    yield from report["mend"]


def _providers() -> list[str]:
    try:
        import onnxruntime
    except ImportError:
        return []
    return list(onnxruntime.get_available_providers())


def _backends() -> dict[str, str]:
    """The backends that open here; each with the name, and precision, that its pictures will say."""
    from sdrt.backends import BACKENDS, open_runtime

    opened = {}
    for name in BACKENDS:
        with contextlib.suppress(SdrtError):
            opened[name] = open_runtime(name).name
    return opened


def _models() -> Iterator[tuple[str, Path, Manifest]]:
    """The bundles that are whole enough to be asked: name, folder, manifest."""
    from sdrt import manifest as manifests
    from sdrt.models import exported_bundles, find_bundle

    for name in exported_bundles():
        with contextlib.suppress(SdrtError):
            path = find_bundle(name)
            yield name, path, manifests.read(path / manifests.FILE_NAME)


def _runs_something(backend: str) -> bool:
    """Whether a backend needs no engines, or there is a model that has some for it."""
    from sdrt.choice import has_engines

    return any(
        has_engines(backend, path, manifest, manifest.defaults.width, manifest.defaults.height)
        for _, path, manifest in _models()
    )


def _choices() -> Iterator[tuple[str, dict[str, str]]]:
    """What `auto` is for each model at its own size, and why."""
    from sdrt.choice import choose

    for name, path, manifest in _models():
        size = manifest.defaults
        with contextlib.suppress(MissingExtraError):  # no backend at all, which is said elsewhere
            choice = choose(path, manifest, width=size.width, height=size.height)
            yield name, {"backend": choice.backend, "why": choice.why}


def gpus() -> list[str]:
    """NVIDIA's: name, memory, driver and compute capability of each, as nvidia-smi tells."""
    query = [
        "nvidia-smi",
        "--query-gpu=name,memory.total,driver_version,compute_cap",
        "--format=csv,noheader",
    ]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.strip().splitlines()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return None


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
