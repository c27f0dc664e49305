"""A line that proposes what a distillation LoRA is meant for; nothing is changed unasked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdrt.request import Request

_OPTIONS = {
    "sampler": "--sampler",
    "schedule": "--schedule",
    "spacing": "--spacing",
    "steps": "--steps",
    "guidance_scale": "--guidance",
}


def proposals(loras: Sequence[Path], request: Request) -> Iterator[str]:
    """A line for each LoRA of a known kind that a request does not run as it is meant to be run."""
    from sdrt.errors import InputError
    from sdrt.lora.distilled import distilled
    from sdrt.safetensors_file import SafetensorsFile

    for path in loras:
        metadata: Mapping[str, str] = {}
        try:
            metadata = SafetensorsFile(path).metadata
        except InputError:  # loading it says what is wrong
            continue
        found = distilled(path.stem, metadata)
        if found is None:
            continue
        if any(getattr(request, name) != value for name, value in found.settings.items()):
            words = " ".join(f"{_OPTIONS[name]} {_text(value)}" for name, value in found.settings.items())
            yield f"{path.name} is a LoRA of {found.kind}, which is meant for {words}"


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
