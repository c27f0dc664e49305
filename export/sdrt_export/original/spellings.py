"""The keys of a single file as the original code bases had them, whatever wrappers wrote them.

Trainers save a model inside others: `state_dict.` and `module.` stand before its keys, and torch.compile puts
`_orig_mod.` wherever a compiled module begins. A file of moving averages alone has its U-Net as `model_ema.`,
whose names the first code base wrote without dots (LitEma in ldm/modules/ema.py of
https://github.com/CompVis/stable-diffusion): `model_ema.diffusion_modelinput_blocks10in_layers0weight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sdrt.errors import ExportError

from ..parameters import Tensors

_WRAPPERS = re.compile(r"\A(?:state_dict\.|module\.)+")
_COMPILED = "_orig_mod."
_UNET = "model.diffusion_model."
_AVERAGES = "model_ema."
# Names of the U-Net's modules. Blocks have two numbers, of which the second is one digit.
_BLOCK = re.compile(r"(input_blocks|output_blocks)(\d+)(\d)")
_WORD = re.compile(
    r"middle_block|transformer_blocks|time_embed|label_emb|skip_connection|emb_layers|out_layers|in_layers"
    r"|cond_proj|proj_out|proj_in|to_out|to_q|to_k|to_v|attn1|attn2|norm1|norm2|norm3|norm|proj|conv|net|out"
    r"|ff|op|weight|bias"
)
_NUMBER = re.compile(r"\d+")


class RenamedFile:
    """A file whose tensors go by other keys. keys: new key -> its own."""

    def __init__(self, file: Tensors, keys: Mapping[str, str]) -> None:
        self.path: Path = file.path
        self._file = file
        self._keys = keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __getitem__(self, key: str) -> Tensor:
        return self._file[self._keys[key]]

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self._file.shape(self._keys[key])

    def dtype(self, key: str) -> torch.dtype:
        """Type of a tensor, without reading it. Raises ExportError if sdrt cannot export it."""
        return self._file.dtype(self._keys[key])


def with_plain_keys(file: Tensors) -> Tensors:
    """The file under the keys that the original code bases gave its tensors.

    Raises ExportError if two tensors have the same.
    """
    keys: dict[str, str] = {}
    for key in file:
        plain = _WRAPPERS.sub("", key.replace(_COMPILED, ""))
        if keys.setdefault(plain, key) != key:
            raise ExportError(f"{file.path} has {plain} twice: {keys[plain]} and {key}; download it again")
    if not any(key.startswith(_UNET) for key in keys):
        keys = {_averaged(plain): key for plain, key in keys.items()}
    return RenamedFile(file, keys) if any(plain != key for plain, key in keys.items()) else file


def _averaged(key: str) -> str:
    """The key of the parameter that a moving average is of; other keys as they are."""
    name = key.removeprefix(f"{_AVERAGES}diffusion_model")
    if name == key:
        return key
    words = [name.removeprefix(".")] if name.startswith(".") else _split(name)
    return key if words is None else _UNET + ".".join(words)


def _split(name: str) -> list[str] | None:
    """The parts of a name that lost its dots; None if it is of none that is known."""
    words: list[str] = []
    at = 0
    while at < len(name):
        if block := _BLOCK.match(name, at):
            words += block.groups()
            at = block.end()
        elif word := _WORD.match(name, at):
            words.append(word[0])
            at = word.end()
        elif number := _NUMBER.match(name, at):
            # label_emb.0.0 is the only other module with two numbers
            words += [*number[0]] if words[-1:] == ["label_emb"] else [number[0]]
            at = number.end()
        else:
            return None
    return words
