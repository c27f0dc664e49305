"""Requests of InvokeAI's JSON: `invokeai_metadata` since version 3, `sd-metadata` before."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from sdrt.errors import InputError, UnknownNameError
from sdrt.metadata.checked import few, file_name, json_object, plain, typed
from sdrt.metadata.recorded import LoraFile, ModelName, NamedFile, RecordedSettings
from sdrt.metadata.sampling import Sampling, draws_noise
from sdrt.samplers import find_sampler

_NUMBERS = {  # key -> keyword, type
    "width": ("width", int),
    "height": ("height", int),
    "steps": ("steps", int),
    "seed": ("seed", int),
    "cfg_scale": ("guidance_scale", float),
}
# read elsewhere, or without a bearing on the picture
_KNOWN = {
    *("app_version", "generation_mode", "positive_prompt", "negative_prompt", "scheduler", "clip_skip"),
    *("model", "loras", "rand_device", "strength", "init_image", "created_by", "canvas_v2_metadata"),
    *("positive_style_prompt", "negative_style_prompt", "hrf_strength", "hrf_method"),
}
_OLD_KNOWN = {"prompt", "sampler", "type"}
# what does nothing
_OFF: tuple[object, ...] = (None, False, 0, "", [], {})
_COMPEL = re.compile(r"[\w\")][+\-]+(?:\s|$|,)|\)[\d.]+|\.(?:blend|swap|and)\(")
_NEGATIVE = re.compile(r"\[([^\[\]]*)\]")


def read_metadata(text: str) -> RecordedSettings:
    """What `invokeai_metadata` says. Raises InputError if it is none of theirs."""
    said = json_object(text, "`invokeai_metadata` text")
    if "positive_prompt" not in said:
        raise InputError("its `invokeai_metadata` has no positive_prompt: it was not made from a prompt")
    found = _sampling(said, said.get("scheduler"))
    _prompts(
        found,
        typed(said["positive_prompt"], str, "positive_prompt"),
        typed(said.get("negative_prompt") or "", str, "negative_prompt"),
    )
    skipped: int = typed(said.get("clip_skip") or 0, int, "clip_skip")
    if skipped:
        found.settings["clip_skip"] = skipped + 1
    if said.get("rand_device", "cpu") not in ("cpu", None):
        device = plain(said["rand_device"])
        found.notes.append(f"its noise was drawn by another generator (rand_device: {device})")
    for key in ("positive_style_prompt", "negative_style_prompt"):
        if said.get(key) not in (None, "", said.get(key.replace("_style", ""))):
            found.notes.append(f"{key}: {plain(said[key])} is not carried over")
    found.notes += _left_out(said, _KNOWN)
    pictures = _init_image(said, found)
    loras: list[dict[str, Any]] = typed(said.get("loras") or [], list[dict[str, Any]], "loras")
    return RecordedSettings(
        writer=_writer(said),
        settings=found.settings,
        model=_model(said.get("model") or {}),
        loras=tuple(map(_lora, loras)),
        pictures=pictures,
        notes=few(found.notes),
        wanted=found.wanted,
    )


def read_old_metadata(text: str) -> RecordedSettings:
    """What `sd-metadata` says, of versions 1.14 to 2. Raises InputError if it is none of theirs."""
    said = json_object(text, "`sd-metadata` text")
    image: dict[str, Any] = typed(said.get("image"), dict[str, Any], "`image` of its sd-metadata")
    found = _sampling(image, image.get("sampler"))
    _prompts(found, *_old_prompt(image.get("prompt")))
    if image.get("type", "txt2img") != "txt2img":
        found.wanted["init_image"] = "it was made from another picture and does not name it"
    found.notes += _left_out(image, _OLD_KNOWN)
    name: str | None = typed(said.get("model_weights"), str | None, "model_weights")
    digest: str | None = typed(said.get("model_hash"), str | None, "model_hash")
    return RecordedSettings(
        writer=_writer(said),
        settings=found.settings,
        model=ModelName(name=name, hash=digest),
        notes=few(found.notes),
        wanted=found.wanted,
    )


def _sampling(said: Mapping[str, Any], name: Any) -> Sampling:
    """The numbers, and the sampler."""
    found = Sampling()
    for key, (keyword, kind) in _NUMBERS.items():
        if said.get(key) is not None:
            found.settings[keyword] = typed(said[key], kind, key)
    if name is None:
        found.notes.append("its sampler is not said: this is the model's own")
        return found
    try:
        sampler, levels = find_sampler(typed(name, str, "its scheduler"))
    except UnknownNameError as error:
        found.wanted["sampler"] = str(error)
        return found
    found.settings |= {"sampler": sampler.name, "sigma_schedule": levels or "plain"}
    if draws_noise(found.settings):
        found.notes.append("its sampler drew its noise on the way from another seed")
    return found


def _prompts(found: Sampling, prompt: str, negative: str) -> None:
    found.settings |= {"prompt": prompt, "negative_prompt": negative, "prompt_syntax": "plain"}
    if _COMPEL.search(prompt) or _COMPEL.search(negative):
        found.notes.append("weights and blends of InvokeAI (word++, (words)1.2, .blend) are text here")


def _old_prompt(said: Any) -> tuple[str, str]:
    """Before version 3 the negative prompt stood in brackets within the prompt."""
    if isinstance(said, list) and len(said) == 1 and isinstance(said[0], dict):
        said = said[0].get("prompt")
    text: str = typed(said, str, "`prompt` of its sd-metadata")
    negative = " ".join(_NEGATIVE.findall(text))
    return _NEGATIVE.sub("", text).strip(), negative.strip()


def _left_out(said: Mapping[str, Any], known: Collection[str]) -> list[str]:
    left = [key for key in said if key not in known and key not in _NUMBERS and said[key] not in _OFF]
    return [f"{plain(key)}: {plain(said[key])} is not carried over" for key in left]


def _writer(said: Mapping[str, Any]) -> str:
    version: str = typed(said.get("app_version") or "", str, "app_version")
    return f"InvokeAI {plain(version)}".rstrip()


def _model(said: Any) -> ModelName:
    model: dict[str, Any] = typed(said, dict[str, Any], "model")
    name: str | None = typed(_name(model), str | None, "the model's name")
    return ModelName(name=name)


def _lora(said: dict[str, Any]) -> LoraFile:
    model: dict[str, Any] = typed(said.get("model", said.get("lora")), dict[str, Any], "a LoRA")
    weight: float = typed(said.get("weight"), float, "the weight of a LoRA")
    return LoraFile(file=NamedFile(name=file_name(_name(model), "a LoRA")), weight=weight)


def _name(model: Mapping[str, Any]) -> Any:
    """`name` since version 4, `model_name` in 3."""
    return model.get("name", model.get("model_name"))


def _init_image(said: Mapping[str, Any], found: Sampling) -> dict[str, NamedFile]:
    mode: str = typed(said.get("generation_mode") or "txt2img", str, "generation_mode")
    if mode.endswith("txt2img"):
        return {}
    if mode.endswith(("inpaint", "outpaint")):
        found.wanted["mask"] = "it was made with a mask and does not name it"
    if said.get("strength") is not None:
        # what diffusers calls strength
        strength: float = typed(said["strength"], float, "strength")
        steps = found.settings.get("steps", 1)
        found.settings["start_step"] = max(steps - int(steps * min(max(strength, 0.0), 1.0)), 0)
    if said.get("init_image"):
        return {"init_image": NamedFile(name=file_name(said["init_image"], "its init image"))}
    found.wanted["init_image"] = "it was made from another picture and does not name it"
    return {}
