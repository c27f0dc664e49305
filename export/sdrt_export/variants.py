"""Which of the weight files of a checkpoint are taken, by their names alone.

diffusers puts the variant before the ending, `diffusion_pytorch_model.fp16.safetensors`; in the name of a
list of shards it comes late, `diffusion_pytorch_model.safetensors.index.fp16.json`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from sdrt.errors import ExportError


def choose_weights(
    names: Collection[str], stem: str, variant: str | None = None
) -> tuple[str, str | None] | None:
    """Of the files of one component, the one that holds its weights or lists their shards; and its variant.

    variant: the one asked for. A component without it gives its plain files, as in diffusers: variants
    such as non_ema are of the U-Net alone. Where there are no plain files, fp16 is taken. None if there is
    nothing.
    """
    for each in (variant, None, "fp16"):
        part = "" if each is None else f".{each}"
        for name in (f"{stem}{part}.safetensors", f"{stem}.safetensors.index{part}.json"):
            if name in names:
                return name, each
    return None


def check_variant(variant: str | None, stems: Mapping[str, str], names: Collection[str], called: str) -> None:
    """Raise ExportError if a variant was asked for that no component has.

    stems: folder of a component -> how the names of its weights begin. names: files, relative to the
    folder or repository that is `called` so.
    """
    there = {found for folder, stem in stems.items() for found in _variants(names, f"{folder}/{stem}")}
    if variant is not None and variant not in there:
        known = f"it has {', '.join(sorted(there))}" if there else "it has none"
        raise ExportError(
            f"{called} has no weights of the variant {variant}: {known}; or leave out --variant"
        )


def _variants(names: Iterable[str], stem: str) -> set[str]:
    whole = re.compile(rf"{stem}\.(\w+)\.safetensors")
    index = re.compile(rf"{stem}\.safetensors\.index\.(\w+)\.json")
    return {match[1] for name in names if (match := whole.fullmatch(name) or index.fullmatch(name))}
