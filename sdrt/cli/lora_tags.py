"""`<lora:name:0.8>` in prompts of `sdrt generate`: the tags leave the prompts, their files join --lora."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdrt.errors import InputError

if TYPE_CHECKING:
    from sdrt.lora.tags import LoraTag
    from sdrt.many.jobs import Asked

LORA_FOLDER = "loras"  # beside a bundle, where --lora-dir need not be said


def take_lora_tags(
    asked: Sequence[Asked], bundle: Path, folders: Sequence[Path]
) -> tuple[list[Asked], tuple[str, ...]]:
    """What is asked without tags, and `FILE:WEIGHT` of each LoRA that they name.

    folders: of --lora-dir; then the bundle's own folder `loras`, the one beside it, and what is beside it.
    Raises InputError if one is not found, or the pictures of a run name different ones.
    """
    from sdrt.lora.tags import find_lora

    stripped = [_without_tags(one) for one in asked]
    named = [tags for _, tags in stripped]
    other = next((one for one, tags in zip(asked, named, strict=True) if tags != named[0]), None)
    if other is not None:
        raise InputError(
            f"{other.where or 'one prompt'} names other LoRAs than {asked[0].where or 'another'}; all "
            "pictures of a run have the same, so make them in several runs"
        )
    bundle = bundle.resolve()
    places = [*folders, bundle / LORA_FOLDER, bundle.parent / LORA_FOLDER]
    files = [(find_lora(tag, places), tag.weight) for tag in named[0]]
    return [one for one, _ in stripped], tuple(f"{file}:{weight!r}" for file, weight in files)


def _without_tags(asked: Asked) -> tuple[Asked, list[LoraTag]]:
    from sdrt.lora.tags import take_tags

    settings: dict[str, Any] = dict(asked.settings)
    if settings.get("prompt_syntax", "a1111") != "a1111":
        return asked, []
    tags: list[LoraTag] = []
    try:
        for name in ("prompt", "negative_prompt"):
            if isinstance(settings.get(name), str):
                settings[name], found = take_tags(settings[name])
                tags += found
        blend = []
        for text, weight in settings.get("blend") or ():
            text, found = take_tags(text)
            blend.append((text, weight))
            tags += found
    except InputError as error:
        raise InputError(f"{asked.where}: {error}" if asked.where else str(error)) from None
    if blend:
        settings["blend"] = tuple(blend)
    return replace(asked, settings=settings), tags
