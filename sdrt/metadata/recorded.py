"""How a picture says that it was made, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class NamedFile:
    """A file that a picture names: without its folder, and perhaps without its ending.

    sha256: lower-case hex, all of it or its first digits; None if the picture does not say.
    part: what the hash is of: the whole file, or what follows the header of a .safetensors.
    """

    name: str
    sha256: str | None = None
    part: Literal["file", "tensors"] = "file"


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """A LoRA and its weight."""

    file: NamedFile
    weight: float


@dataclass(frozen=True, kw_only=True)
class EmbeddingFile:
    """An embedding and its word, None where that is the file's own."""

    file: NamedFile
    token: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelName:
    """A model, as far as the picture says.

    hash: the first ten digits or all of a SHA-256, of the U-Net's weights or of the checkpoint's file; other
    programs have other hashes, too. graphs: SHA-256 of each graph of the bundle with its weights; empty where
    sdrt did not write it.
    """

    name: str | None = None
    hash: str | None = None
    graphs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RecordedSettings:
    """How a picture was made.

    writer: the program, with its version if it says. settings: the prompt and other keywords of
    `Pipeline.generate`. pictures: the files of `init_image` and `mask`.
    backend, library, machine, version: what ran it, and which sdrt; None where sdrt did not write it.
    pixels_sha256: of the bytes [H, W, 3] before any compression.
    notes: what the picture says and sdrt does not take over, a line each.
    wanted: settings without which there is no request, each with the reason that the picture has none.
    """

    writer: str
    settings: Mapping[str, Any]
    model: ModelName = field(default_factory=ModelName)
    loras: tuple[LoraFile, ...] = ()
    embeddings: tuple[EmbeddingFile, ...] = ()
    pictures: Mapping[str, NamedFile] = field(default_factory=dict)
    backend: str | None = None
    library: str | None = None
    machine: str | None = None
    version: str | None = None
    pixels_sha256: str | None = None
    notes: tuple[str, ...] = ()
    wanted: Mapping[str, str] = field(default_factory=dict)
