"""sdrt's own JSON, read back; also that of pictures from before hashes of all graphs were written."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sdrt.errors import InputError
from sdrt.metadata.checked import few, file_name, json_object, shown, typed
from sdrt.metadata.keywords import OWN
from sdrt.metadata.recorded import EmbeddingFile, LoraFile, ModelName, NamedFile, RecordedSettings
from sdrt.metadata.written import LEFT_OUT, file_fields, types_of_request
from sdrt.request import Request

_BESIDE = {
    "version",
    "files_sha256",
    "model",
    "backend",
    "library",
    "machine",
    "loras",
    "embeddings",
    "pixels_sha256",
}
_HEX = frozenset("0123456789abcdef")


def read_own(text: str) -> RecordedSettings:
    """What the JSON says. Raises InputError for anything that sdrt would not have written."""
    said = json_object(text, f"`{OWN}` text")
    version = _text(said, "version")
    known = {one.name for one in fields(Request)}
    others = [key for key in said if key not in known | _BESIDE]
    return RecordedSettings(
        writer=f"sdrt {version}" if version else "sdrt",
        settings=_settings(said),
        model=_model(said.get("model", {})),
        loras=tuple(map(_lora, _objects(said, "loras"))),
        embeddings=tuple(map(_embedding, _objects(said, "embeddings"))),
        pictures=_pictures(said),
        backend=_text(said, "backend"),
        library=_text(said, "library"),
        machine=_text(said, "machine"),
        version=version,
        pixels_sha256=_hash(said.get("pixels_sha256"), "pixels_sha256"),
        notes=few(f"{shown(key)} is of another version of sdrt and left out" for key in others),
    )


def _settings(said: dict[str, Any]) -> dict[str, Any]:
    if "prompt" not in said:
        raise InputError(f"its `{OWN}` text has no prompt; another program changed it")
    found = {
        one.name: typed(said[one.name], types_of_request()[one.name], one.name)
        for one in fields(Request)
        if one.name in said and one.name not in LEFT_OUT and one.name not in file_fields()
    }
    # what `resolve_request` takes together with something else only
    if found.get("image_guidance") is not None or not (said.get("init_image") or found.get("start_step")):
        found.pop("start_step", None)
    if found.get("variation_seed") is None:
        found.pop("variation_strength", None)
    return found


def _pictures(said: dict[str, Any]) -> dict[str, NamedFile]:
    hashes: dict[str, Any] = typed(said.get("files_sha256", {}), dict[str, Any], "files_sha256")
    return {
        name: NamedFile(name=file_name(said[name], name), sha256=_hash(hashes.get(name), f"{name}'s hash"))
        for name in file_fields()
        if said.get(name) is not None
    }


def _model(said: Any) -> ModelName:
    model: dict[str, Any] = typed(said, dict[str, Any], "model")
    graphs: dict[str, str] = typed(model.get("graphs", {}), dict[str, str], "graphs")
    return ModelName(
        name=_text(model, "name"),
        hash=_hash(model.get("unet_sha256"), "unet_sha256"),
        graphs={name: _hash(digest, "a graph's hash") or "" for name, digest in graphs.items()},
    )


def _lora(said: dict[str, Any]) -> LoraFile:
    file = NamedFile(name=file_name(said.get("file"), "a LoRA"), sha256=_hash(said.get("sha256"), "its hash"))
    return LoraFile(file=file, weight=typed(said.get("weight"), float, "the weight of a LoRA"))


def _embedding(said: dict[str, Any]) -> EmbeddingFile:
    name = file_name(said.get("file"), "an embedding")
    file = NamedFile(name=name, sha256=_hash(said.get("sha256"), "its hash"))
    return EmbeddingFile(file=file, token=typed(said.get("token"), str | None, "an embedding's word"))


def _objects(said: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = typed(said.get(key, []), list[dict[str, Any]], key)
    return found


def _text(said: dict[str, Any], key: str) -> str | None:
    found: str | None = typed(said.get(key), str | None, key)
    return found


def _hash(value: Any, called: str) -> str | None:
    found: str | None = typed(value, str | None, called)
    if found is not None and (len(found) != 64 or not _HEX.issuperset(found)):
        raise InputError(f"{called} is {shown(found)}, which is no SHA-256")
    return found
