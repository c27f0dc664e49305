"""Requests of ComfyUI's graph, followed by its links from the node that saved the picture.

What stands in the graph and is not on the way from there does not count.
"""

from __future__ import annotations

import re
from typing import Any

from sdrt.errors import InputError
from sdrt.metadata.checked import few, file_name, json_object, shown, typed
from sdrt.metadata.comfyui_graph import Graph, Node, inputs, kind
from sdrt.metadata.recorded import LoraFile, ModelName, NamedFile, RecordedSettings
from sdrt.metadata.sampling import draws_noise, of_comfyui

_SAVING = ("SaveImage", "PreviewImage")
_SAMPLERS = ("KSampler", "KSamplerAdvanced")
_DECODERS = ("VAEDecode", "VAEDecodeTiled")
_MASKING = ("VAEEncodeForInpaint", "SetLatentNoiseMask")
_HOLDING_TEXT = ("text", "value", "string", "prompt")
_LORAS = ("LoraLoader", "LoraLoaderModelOnly")
# the texts that an encoder takes, the first of which sdrt gives to all text encoders
_ENCODERS = {"CLIPTextEncode": ("text",), "CLIPTextEncodeSDXL": ("text_g", "text_l")}
_ZEROS = "ConditioningZeroOut"
_EMPTY = ("EmptyLatentImage", "EmptySD3LatentImage")
_RESOLVED = "populated_text"  # where wildcard nodes keep what they drew
_DRAWING = re.compile(r"wildcard|random|dynamicprompt|DPRandom|DPCombin", re.IGNORECASE)
_EMBEDDING = re.compile(r"\bembedding:([\w.\-/\\]+)")
_WEIGHTED = re.compile(r"(?<!\\)[()]")


def read_graph(text: str) -> RecordedSettings:
    """What a graph says. Raises InputError if it has no sampler that can be followed."""
    return _Reader(Graph(json_object(text, "ComfyUI graph"))).read()


class _Reader:
    """One graph: `settings`, `notes` and `wanted` grow as its links are followed."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.settings: dict[str, Any] = {}
        self.notes: list[str] = []
        self.wanted: dict[str, str] = {}
        self.loras: list[LoraFile] = []
        self.pictures: dict[str, NamedFile] = {}

    def read(self) -> RecordedSettings:
        sampler = self._sampler_of_the_picture()
        said = inputs(sampler)
        advanced = kind(sampler) == "KSamplerAdvanced"
        self.settings["seed"] = self._value(sampler, "noise_seed" if advanced else "seed", int)
        self.settings["steps"] = self._value(sampler, "steps", int)
        self.settings["guidance_scale"] = self._value(sampler, "cfg", float)
        self._sampling(sampler)
        self.settings["prompt"] = self._prompt(self.graph.linked(sampler, "positive"), "positive")
        negative = self.graph.linked(sampler, "negative")
        if negative is not None and kind(negative) == _ZEROS:
            self.settings |= {"negative_prompt": "", "zero_negative": True}
        else:
            self.settings["negative_prompt"] = self._prompt(negative, "negative")
        self._syntax()
        model = self._model(self.graph.linked(sampler, "model"))
        self._latents(self.graph.linked(sampler, "latent_image"))
        if advanced:
            self._steps_of_advanced(sampler)
        elif typed(said.get("denoise", 1.0), float, "denoise") < 1:
            self._denoise(typed(said["denoise"], float, "denoise"))
        return RecordedSettings(
            writer="ComfyUI",
            settings=self.settings,
            model=model,
            loras=tuple(self.loras),
            pictures=self.pictures,
            notes=few(self.notes),
            wanted=self.wanted,
        )

    def _sampler_of_the_picture(self) -> Node:
        found: dict[int, Node] = {}
        followed: set[int] = set()  # nodes behind savers before: there may be thousands over one chain
        for saving in self.graph.of(*_SAVING):
            chain: list[int] = []
            for node in self.graph.chain(self.graph.linked(saving, "images"), "images", "image"):
                if id(node) in followed:
                    break
                chain.append(id(node))
                made = self.graph.linked(node, "samples") if kind(node) in _DECODERS else None
                if made is None:
                    self._left_out(node)
                    continue
                found[id(made)] = made
                self._vae(self.graph.linked(node, "vae"))
            followed.update(chain)
        samplers = list(found.values()) or self.graph.of(*_SAMPLERS)
        if len(samplers) != 1:
            how = "several samplers" if samplers else "no sampler"
            raise InputError(f"its ComfyUI graph has {how} that the picture may come from")
        if kind(samplers[0]) not in _SAMPLERS:
            known = " and ".join(_SAMPLERS)
            raise InputError(f"its ComfyUI graph samples with {shown(kind(samplers[0]))}; sdrt reads {known}")
        return samplers[0]

    def _vae(self, node: Node | None) -> None:
        if node is not None and "ckpt_name" not in inputs(node):
            self._left_out(node)

    def _value(self, node: Node, key: str, expected: type) -> Any:
        """An input that is no link, or one that a primitive node holds."""
        source = self.graph.linked(node, key)
        if source is not None:
            held = inputs(source).get("value", inputs(source).get("int", inputs(source).get("seed")))
            return typed(held, expected, f"{key} of its {kind(node)}")
        return typed(inputs(node).get(key), expected, f"{key} of its {kind(node)}")

    def _sampling(self, sampler: Node) -> None:
        name: str = self._value(sampler, "sampler_name", str)
        found = of_comfyui(name, self._value(sampler, "scheduler", str))
        self.settings |= found.settings
        self.notes += found.notes
        self.wanted |= found.wanted
        if draws_noise(self.settings):
            self.notes.append("its sampler drew its noise on the way in an order of ComfyUI's own")

    def _prompt(self, node: Node | None, called: str) -> str:
        for one in self.graph.chain(node, "conditioning", called):
            if kind(one) == _ZEROS:
                raise InputError(
                    f"the {called} prompt of its ComfyUI graph is set to zeros, which sdrt cannot"
                )
            if kind(one) in _ENCODERS:
                self._clip(self.graph.linked(one, "clip"))
                keys = _ENCODERS[kind(one)]
                texts = [self._text(one, key) for key in keys]
                if len(set(texts)) > 1:
                    self.notes.append(
                        f"{keys[1]} of its {kind(one)} is another text: both encoders get {keys[0]}"
                    )
                return texts[0]
            if isinstance(inputs(one).get(_RESOLVED), str):  # a wildcard's own encoder
                self._clip(self.graph.linked(one, "clip"))
                return str(inputs(one)[_RESOLVED])
            self._left_out(one)
        raise InputError(f"the {called} prompt of its ComfyUI graph comes from no CLIPTextEncode")

    def _text(self, node: Node, key: str) -> str:
        source = self.graph.linked(node, key)
        held: Any = inputs(node).get(key)
        if source is not None:
            given = inputs(source)
            texts = [given[name] for name in _HOLDING_TEXT if isinstance(given.get(name), str)]
            if isinstance(given.get(_RESOLVED), str):
                texts = [given[_RESOLVED]]
            elif _DRAWING.search(kind(source)):
                raise InputError(
                    f"its prompt was drawn by a {shown(kind(source))}, and its graph has the template alone"
                )
            if not texts:
                raise InputError(f"its prompt comes from a {shown(kind(source))}, which sdrt cannot read")
            held = texts[0]
        return typed(held, str, "its prompt")

    def _clip(self, node: Node | None) -> None:
        for one in self.graph.chain(node, "clip"):
            if kind(one) == "CLIPSetLastLayer":
                self.settings["clip_skip"] = -self._value(one, "stop_at_clip_layer", int)

    def _syntax(self) -> None:
        r"""ComfyUI knows (weights:1.2) and `\(`; brackets, AND and BREAK are text there."""
        both = [self.settings["prompt"], self.settings["negative_prompt"]]
        plain = not any("(" in text or ")" in text for text in both)
        self.settings["prompt_syntax"] = "plain" if plain else "a1111"
        if any(_WEIGHTED.search(text) for text in both):
            self.notes.append("weights in its prompts are applied as AUTOMATIC1111 does, not as ComfyUI")
        for keyword, text in zip(("prompt", "negative_prompt"), both, strict=True):
            for name in _EMBEDDING.findall(text):
                self.notes.append(f"{shown(name)} is an embedding; give it with --textual-inversion")
            text = _EMBEDDING.sub(lambda found: file_name(found[1], "an embedding").partition(".")[0], text)
            if not plain:
                text = re.sub(r"[\[\]|]", r"\\\g<0>", text)
                text = re.sub(r"\b(?:AND|BREAK)\b", lambda found: f"{found[0][0]}\\{found[0][1:]}", text)
            self.settings[keyword] = text

    def _model(self, node: Node | None) -> ModelName:
        for one in self.graph.chain(node, "model"):
            if kind(one) in _LORAS:
                self._lora(one)
            elif "ckpt_name" in inputs(one):
                name = file_name(self._value(one, "ckpt_name", str), "its checkpoint")
                return ModelName(name=name.rpartition(".")[0] or name)
            else:
                self._left_out(one)
        return ModelName()

    def _lora(self, node: Node) -> None:
        weight: float = self._value(node, "strength_model", float)
        name = file_name(self._value(node, "lora_name", str), "a LoRA")
        text: float = weight
        if kind(node) == "LoraLoader":
            text = self._value(node, "strength_clip", float)
        if text != weight:
            self.notes.append(f"the LoRA {shown(name)} has {weight:g} for all, not {text:g} for the text")
        self.loras.insert(0, LoraFile(file=NamedFile(name=name), weight=weight))

    def _latents(self, node: Node | None) -> None:
        while node is not None and kind(node) == "RepeatLatentBatch":
            self.notes.append("it is one of a batch, and does not say which: this is the first")
            node = self.graph.linked(node, "samples")
        if node is not None and kind(node) in _EMPTY:
            self.settings["width"] = self._value(node, "width", int)
            self.settings["height"] = self._value(node, "height", int)
            if self._value(node, "batch_size", int) > 1:
                self.notes.append("it is one of a batch, and does not say which: this is the first")
            return
        for one in self.graph.chain(node, "samples"):
            if kind(one) in _SAMPLERS:
                raise InputError("its ComfyUI graph has two samplers in a row, which is no request of sdrt's")
            if kind(one) in _MASKING:
                self.wanted["mask"] = "it was made with a mask that is not read off its ComfyUI graph"
            if "pixels" in inputs(one):
                self._init_image(self.graph.linked(one, "pixels"))
                return
            if kind(one) not in _MASKING:
                self._left_out(one)
        self.wanted["init_image"] = "it was made from a picture that its ComfyUI graph does not name"

    def _init_image(self, node: Node | None) -> None:
        for one in self.graph.chain(node, "image"):
            if kind(one) == "LoadImage":
                name = file_name(self._value(one, "image", str), "its init image")
                self.pictures["init_image"] = NamedFile(name=name)
                return
            self._left_out(one)
        self.wanted["init_image"] = "it was made from a picture that its ComfyUI graph does not name"

    def _denoise(self, share: float) -> None:
        """ComfyUI lays int(steps / denoise) steps and takes the last `steps` of them."""
        if share <= 0:
            raise InputError(f"denoise of its KSampler is {share:g}: nothing was made")
        steps = self.settings["steps"]
        self.settings["steps"] = max(int(steps / share), steps)
        self.settings["start_step"] = self.settings["steps"] - steps

    def _steps_of_advanced(self, sampler: Node) -> None:
        first: int = self._value(sampler, "start_at_step", int)
        if first > 0:
            self.settings["start_step"] = first
        if self._value(sampler, "end_at_step", int) < self.settings["steps"]:
            raise InputError("its KSamplerAdvanced stops before the last step, which is no request of sdrt's")
        if self._value(sampler, "add_noise", str) != "enable":
            raise InputError("its KSamplerAdvanced adds no noise, which is no request of sdrt's")

    def _left_out(self, node: Node) -> None:
        self.notes.append(f"the node {shown(kind(node))} is not carried over")
