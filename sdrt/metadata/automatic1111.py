"""Requests of AUTOMATIC1111's text, and of the programs that write the same."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from sdrt.errors import InputError
from sdrt.lora.tags import TAG, LoraTag
from sdrt.metadata.checked import MAX_TEXT, few, file_name, plain, shown, typed
from sdrt.metadata.parameters import parse_parameters
from sdrt.metadata.recorded import EmbeddingFile, LoraFile, ModelName, NamedFile, RecordedSettings
from sdrt.metadata.sampling import draws_noise, of_automatic1111, of_sdrt

_NUMBERS = {  # key -> keyword, type
    "Steps": ("steps", int),
    "CFG scale": ("guidance_scale", float),
    "Seed": ("seed", int),
    "Clip skip": ("clip_skip", int),
    "Image CFG scale": ("image_guidance", float),
    "Variation seed": ("variation_seed", int),
    "Variation seed strength": ("variation_strength", float),
    "Mask blur": ("mask_blur", float),
}
# read elsewhere, or without a bearing on the picture
_KNOWN = {
    *(
        "Prompt",
        "Negative prompt",
        "Sampler",
        "Schedule type",
        "Size",
        "First pass size",
        "Denoising strength",
    ),
    *("Model", "Model hash", "Lora hashes", "TI hashes", "Hashes", "Init image hash", "VAE", "VAE hash"),
    *("RNG", "ENSD", "Eta", "Batch size", "Batch pos", "Version", "User", "Module 1"),
    "Civitai resources",
}
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
# a name may hold commas and brackets: it ends where a hash follows
_HASH = re.compile(r":\s*([0-9a-fA-F]{8,64})\s*(?:,|$)")


class _Resource(msgspec.Struct):
    type: str = ""
    modelName: str = ""  # noqa: N815, Civitai's name
    modelVersionId: int = 0  # noqa: N815
    weight: float | None = None


def read_parameters(text: str) -> RecordedSettings:
    """What the text says. Raises InputError if it is none of theirs."""
    if len(text) > MAX_TEXT:
        raise InputError(f"its text has {len(text)} characters, more than {MAX_TEXT}")
    fields = parse_parameters(text)
    if "Steps" not in fields:
        raise InputError("its `parameters` text has no line of settings (Steps: ..)")
    return _Reader(fields).read()


class _Reader:
    """One text: `settings`, `notes` and `wanted` grow as its fields are read."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.fields = fields
        self.ours = fields.get("Version", "").startswith("sdrt")
        self.settings: dict[str, Any] = {"prompt_syntax": "a1111"}
        self.notes: list[str] = []
        self.wanted: dict[str, str] = {}
        self.loras: list[LoraFile] = []
        self._tagged: set[str] = set()  # names of LoRAs that a prompt gives

    def read(self) -> RecordedSettings:
        version = self.fields.get("Version", "")
        self._prompts()
        for key, (keyword, kind) in _NUMBERS.items():
            self._number(key, keyword, kind)
        self._size()
        self._sampler()
        self._picture()
        self._resources()
        self._unread()
        model, digest = self.fields.get("Model"), self.fields.get("Model hash")
        return RecordedSettings(
            writer=plain(version) if self.ours else f"AUTOMATIC1111 {plain(version)}".rstrip(),
            settings=self.settings,
            model=ModelName(name=model, hash=digest.lower() if digest else None),
            loras=tuple(self.loras),
            embeddings=tuple(
                EmbeddingFile(file=NamedFile(name=name, sha256=digest), token=name)
                for name, digest in _hashes(self.fields.get("TI hashes", ""))
            ),
            notes=few(self.notes),
            wanted=self.wanted,
        )

    def _prompts(self) -> None:
        hashes = dict(_hashes(self.fields.get("Lora hashes", "")))
        for keyword, key in (("prompt", "Prompt"), ("negative_prompt", "Negative prompt")):
            text = self.fields.get(key, "")
            for kind, inside in TAG.findall(text):
                self._tag(kind.lower(), inside, hashes)
            self.settings[keyword] = TAG.sub("", text)
        for name in sorted(hashes.keys() - self._tagged):
            self._lora(name, 1.0, hashes[name])
            self.notes.append(f"the weight of the LoRA {shown(name)} is not said: 1, unless --lora says it")

    def _tag(self, kind: str, inside: str, hashes: Mapping[str, str]) -> None:
        if kind not in ("lora", "lyco"):
            self.notes.append(f"{shown(f'<{kind}:{inside}>')} is not carried over")
            return
        tag = LoraTag.parse(inside)
        name, text, weight = tag.name, tag.text_weight, tag.weight
        if not math.isfinite(weight):
            self.wanted["loras"] = f"the weight of the LoRA in {shown(f'<{kind}:{inside}>')} is no number"
            return
        if text != weight:
            self.notes.append(f"the LoRA {shown(name)} has {weight:g} for all, not {text:g} for the text")
        self._tagged.add(name)
        self._lora(name, weight, hashes.get(name))

    def _lora(self, name: str, weight: float, digest: str | None) -> None:
        file = NamedFile(name=file_name(name, "a LoRA"), sha256=digest, part="tensors")
        self.loras.append(LoraFile(file=file, weight=weight))

    def _number(self, key: str, keyword: str, kind: type[int] | type[float]) -> None:
        text = self.fields.get(key)
        if text is None:
            return
        try:
            self.settings[keyword] = typed(kind(text), kind, key)
        except (ValueError, InputError):
            self.wanted[keyword] = f"{key} is {shown(text)}, which is no number"

    def _size(self) -> None:
        # pictures of the first hires fix say their final size, and this beside it
        first = _SIZE.fullmatch(self.fields.get("First pass size", ""))
        text = first[0] if first and int(first[1]) else self.fields.get("Size")
        size = _SIZE.fullmatch(text or "")
        if size is not None:
            self.settings["width"], self.settings["height"] = int(size[1]), int(size[2])
        elif text is not None:
            self.wanted["width"] = self.wanted["height"] = f"Size is {shown(text)}, which is no size"

    def _sampler(self) -> None:
        read = of_sdrt if self.ours else of_automatic1111
        found = read(self.fields.get("Sampler", "Euler"), self.fields.get("Schedule type"))
        self.settings |= found.settings
        self.notes += found.notes
        self.wanted |= found.wanted
        if not self.ours:
            self._steps_of_unipc()
        if draws_noise(self.settings):
            self._number("Eta", "eta", float)
        self._noise()

    def _steps_of_unipc(self) -> None:
        """It takes as many steps as range(0, 1000, 1000 // steps) has timesteps: 31 for 30, 20 for 20."""
        steps = self.settings.get("steps")
        if self.settings.get("schedule") == "time_uniform" and steps is not None and 0 < steps <= 1000:
            self.settings["steps"] = len(range(0, 1000, 1000 // steps))

    def _noise(self) -> None:
        source = self.fields.get("RNG", "GPU")
        if source != "CPU":
            self.notes.append(f"its noise was drawn by another generator (RNG: {plain(source)})")
        if self.fields.get("ENSD", "0") != "0" and draws_noise(self.settings):
            self.notes.append(f"ENSD: {plain(self.fields['ENSD'])} is not carried over")
        if "sde" in self.settings.get("sampler", "") and not self.ours:
            self.notes.append("its sampler drew noise from a Brownian tree, which sdrt does not")

    def _picture(self) -> None:
        """Denoising strength is of img2img, unless there is a hires fix that it is of."""
        hires = [key for key in self.fields if key.startswith(("Hires", "First pass size"))]
        if hires:
            said = ", ".join(f"{key}: {self.fields[key]}" for key in hires)
            self.notes.append(f"this is the first pass: its hires fix is not carried over ({plain(said)})")
            return
        strength = self.fields.get("Denoising strength")
        if strength is None:
            return
        self.wanted["init_image"] = "it was made from another picture and does not name it"
        if "Mask blur" in self.fields or "Mask mode" in self.fields:
            self.wanted["mask"] = "it was made with a mask and does not name it"
        try:
            share: float = typed(float(strength), float, "Denoising strength")
        except (ValueError, InputError):
            self.wanted["start_step"] = f"Denoising strength is {shown(strength)}, which is no number"
            return
        steps = self.settings.get("steps", 1)
        if self.ours:
            self.settings["start_step"] = steps - round(steps * share)
            return
        # setup_img2img_steps and sample_img2img of AUTOMATIC1111; DDIM and PLMS run one step fewer
        run = int(min(max(share, 0.0), 0.999) * steps)
        run += self.settings.get("sampler") not in ("ddim", "pndm")
        self.settings["start_step"] = max(steps - run, 0)

    def _resources(self) -> None:
        """Civitai's list of what was used, which names neither file nor hash."""
        try:
            found = msgspec.json.decode(self.fields.get("Civitai resources", "[]"), type=list[_Resource])
        except msgspec.DecodeError:
            self.notes.append("its Civitai resources are no list that can be read")
            return
        for one in found:
            if one.type in ("lora", "lycoris", "dora"):
                weight = "" if one.weight is None else f" with the weight {one.weight:g}"
                name = one.modelName or f"model version {one.modelVersionId}"
                self.notes.append(
                    f"it was made with the LoRA {shown(name)} of Civitai{weight}; give it with --lora"
                )
            elif one.type in ("embed", "embedding", "textualinversion"):
                self.notes.append(
                    f"it was made with the embedding {shown(one.modelName)}; give it with --textual-inversion"
                )

    def _unread(self) -> None:
        known = _KNOWN | _NUMBERS.keys()
        left = [key for key in self.fields if key not in known and not key.startswith("Hires")]
        left += [key for key in ("VAE", "VAE hash") if key in self.fields][:1]
        self.notes += [f"{plain(f'{key}: {self.fields[key]}')} is not carried over" for key in left]
        if self.ours:
            self.settings.pop("spacing", None)
            self.notes.append("sdrt's own text is gone from it, with all that AUTOMATIC1111 has no words for")


def _hashes(text: str) -> Iterator[tuple[str, str]]:
    """`name: 0123456789ab, other: ...`, which names a file and the first digits of a hash."""
    start = 0
    for found in _HASH.finditer(text):
        name = text[start : found.start()].strip()
        start = found.end()
        if name:
            yield name, found[1].lower()
