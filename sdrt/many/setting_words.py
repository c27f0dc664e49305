"""Settings as people write them in files and after options: words and text -> keywords and values.

The words are the keywords of `sdrt.request.resolve_request`, options of the command line without dashes, and
those that AUTOMATIC1111 has for the same things.
"""

from __future__ import annotations

import contextlib
import re
from collections import abc
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from sdrt.errors import InputError, UnknownNameError
from sdrt.request import resolve_request

# of AUTOMATIC1111: modules/processing.py and scripts/prompts_from_file.py name them so
_OTHER_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "negative": "negative_prompt",
        "guidance": "guidance_scale",
        "cfg": "guidance_scale",
        "cfg_scale": "guidance_scale",
        "sampler_name": "sampler",
        "schedule_type": "schedule",
        "scheduler": "schedule",
        "n_iter": "count",
        "subseed": "variation_seed",
        "subseed_strength": "variation_strength",
        "denoising_strength": "strength",
    }
)
# of AUTOMATIC1111's scripts/prompts_from_file.py, without a bearing on what a picture shows
_WITHOUT_BEARING = frozenset(
    {"outpath_samples", "outpath_grids", "prompt_for_display", "do_not_save_samples", "do_not_save_grid"}
)
# those that change it in ways that sdrt has not, and the values that ask for nothing
_FOREIGN: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "sd_model": frozenset(),
        "styles": frozenset(),
        "sampler_index": frozenset(),
        "restore_faces": frozenset({"false", "0"}),
        "tiling": frozenset({"false", "0"}),
        "seed_resize_from_w": frozenset({"-1", "0"}),
        "seed_resize_from_h": frozenset({"-1", "0"}),
    }
)
# what a request cannot have beside another setting, and its value where that is given
_RIVALS: Mapping[str, tuple[str, Any]] = MappingProxyType(
    {
        "strength": ("start_step", None),
        "start_step": ("strength", None),
        "prompt": ("blend", ""),
        "blend": ("prompt", ()),
        "schedule": ("sigmas", ()),
        "sigmas": ("schedule", None),
    }
)
# what stands for the whole run, not for a picture
_NOT_SETTINGS = {"manifest", "limits", "return"}


@cache
def setting_types() -> Mapping[str, Any]:
    """Every setting that a line of a file may have, with the type of its value."""
    hints = get_type_hints(resolve_request)
    return {name: kind for name, kind in hints.items() if name not in _NOT_SETTINGS}


def is_ignored(word: str, value: Any) -> bool:
    """Whether a word of AUTOMATIC1111 asks for nothing here. Raises InputError if sdrt lacks what it asks."""
    name = spelled(word)
    if name in _FOREIGN and str(value).strip().lower() not in _FOREIGN[name]:
        raise InputError(f"{word} is of AUTOMATIC1111, and sdrt has no such setting; take it out")
    return name in _WITHOUT_BEARING or name in _FOREIGN


def spelled(word: str) -> str:
    """A word of any spelling as keywords are spelled: `CFG scale` is `cfg_scale`."""
    return re.sub(r"[\s-]+", "_", word.strip().lstrip("-").lower())


def find_setting(word: str) -> str:
    """The keyword of a word: `CFG scale`, `--guidance` and `guidance_scale` are one.

    Raises UnknownNameError with the nearest.
    """
    name = spelled(word)
    known = setting_types()
    if name not in known:
        name = _OTHER_WORDS.get(name, name)
    if name in known:
        return name
    raise UnknownNameError(
        "setting", word, [*known, *(key for key, to in _OTHER_WORDS.items() if to in known)]
    )


def read_setting(name: str, value: Any) -> Any:
    """The value of a setting from text, or from what JSON has for it.

    Raises InputError saying what was expected.
    """
    kind = setting_types()[name]
    if Path in get_args(kind):
        kind = str
    if isinstance(value, str) and any(get_origin(one) is tuple for one in (kind, *get_args(kind))):
        parts = re.split(r"[\s,]+", value.strip())
        value = parts if len(parts) > 1 else value
    if isinstance(value, str) and any(get_origin(one) is Literal for one in (kind, *get_args(kind))):
        value = value.strip().lower()  # AUTOMATIC1111 writes Karras
    if isinstance(value, str) and float in (kind, *get_args(kind)):
        with contextlib.suppress(ValueError):  # JSON has no .5
            value = float(value)
    try:
        return msgspec.convert(value, kind, strict=False)
    except (msgspec.ValidationError, UnicodeEncodeError):  # of a lone surrogate where no text is expected
        raise InputError(f"{name} is {value!r}; expected {_described(kind)}") from None


def merged(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a whole run, and those of one picture, which go before them and before their rivals."""
    rivals = {rival: nothing for rival, (name, nothing) in _RIVALS.items() if name in own}
    return {**settings, **rivals, **own}


_DESCRIBED = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return " and ".join(_described(one) for one in get_args(kind))
    if get_origin(kind) is abc.Sequence:
        return "a list"
    kinds = [one for one in get_args(kind) if one is not type(None)]
    return " or ".join(map(_described, kinds)) if kinds else _DESCRIBED.get(kind, str(kind))
