"""LoRAs that a prompt names, as AUTOMATIC1111 has them: `a cat <lora:style:0.8>`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdrt.bundle import sha256
from sdrt.errors import InputError

TAG = re.compile(r"<(\w{1,20}):([^<>]{1,300})>")
_LORAS = ("lora", "lyco")
_ENDINGS = (".safetensors", ".pt", ".bin", ".ckpt")
_HASH = re.compile(r"[0-9a-f]{10,64}")
_MOST_FILES = 20_000  # that are looked at in one folder


@dataclass(frozen=True)
class LoraTag:
    """One LoRA of a prompt. name: of its file, or the first digits of its SHA-256. weight: of the U-Net;
    text_weight: of the text encoder, mostly the same. Weights that are no numbers are NaN.
    """

    name: str
    weight: float
    text_weight: float

    @classmethod
    def parse(cls, inside: str) -> LoraTag:
        """Of what stands behind `lora:`. One number is for both parts; of two, the first is the text's."""
        name, *numbers = inside.split(":")
        try:
            weights = [float(number.rpartition("=")[2]) for number in numbers] or [1.0]
        except ValueError:
            weights = [math.nan]
        if not all(map(math.isfinite, weights)):
            weights = [math.nan]
        return cls(name.strip(), weights[:2][-1], weights[0])


def take_tags(text: str) -> tuple[str, list[LoraTag]]:
    """A prompt without its tags, and the LoRAs that they name.

    Raises InputError for a tag of another kind, or a weight that is no number.
    """
    tags = []
    for kind, inside in TAG.findall(text):
        if kind.lower() not in _LORAS:
            raise InputError(
                f"<{kind}:{inside}> is no LoRA; leave it out, or take --prompt-syntax plain if it is text"
            )
        tag = LoraTag.parse(inside)
        if math.isnan(tag.weight):
            raise InputError(f"the weight in <{kind}:{inside}> is no number; write <lora:name:0.8>")
        if tag.weight != tag.text_weight:
            raise InputError(
                f"<{kind}:{inside}> has one weight for the text encoder and one for the U-Net; sdrt has one "
                f"for both: <lora:{tag.name}:{tag.weight:g}>"
            )
        tags.append(tag)
    return TAG.sub("", text), tags


def find_lora(tag: LoraTag, folders: Sequence[Path]) -> Path:
    """The file of a tag: by its name without an ending, in the first folder that has it, else by its hash.

    Folders are searched with those in them. Raises InputError naming the folders.
    """
    name = tag.name.replace("\\", "/").rpartition("/")[2].lower()
    for folder in folders:
        for path in _files(folder):
            if name in (path.stem.lower(), path.name.lower()):
                return path
    if _HASH.fullmatch(name):
        for folder in folders:
            for path in _files(folder):
                if sha256(path).startswith(name):
                    return path
    where = ", ".join(map(str, folders))
    raise InputError(
        f"the LoRA {tag.name!r} of the prompt is not in {where}; say where it is with --lora-dir"
    )


def _files(folder: Path) -> Iterator[Path]:
    """Files that may be LoRAs, in order; links to folders are not followed."""
    count = 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > _MOST_FILES:
                raise InputError(f"{folder} holds more than {_MOST_FILES} files; name a smaller --lora-dir")
            if name.lower().endswith(_ENDINGS):
                yield Path(parent) / name
