"""Axes of a comparison: `sampler=ddim,euler` or `steps=5-20:5`, and what each value makes of settings."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sdrt.errors import InputError, UnknownNameError
from sdrt.many.setting_words import find_setting, merged, read_setting, setting_types

REPLACE = "replace"
_MAX_VALUES = 1000
_NUMBER = r"(-?\d+(?:\.\d+)?)"
# 5-20:5, and AUTOMATIC1111's 5-20 (+5) and 5-20 [4]
_RANGE = re.compile(rf"{_NUMBER}\s*-\s*{_NUMBER}(?:\s*:\s*{_NUMBER}|\s*\(\s*\+?{_NUMBER}\s*\)|\s*\[(\d+)\])?")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One direction of a sheet. setting: a keyword of `resolve_request` or `replace`; labels: as shown."""

    setting: str
    labels: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def titles(self) -> tuple[str, ...]:
        """Of the values, as a sheet says them: numbers with what they are."""
        name = self.setting.replace("_", " ")
        numbers = all(isinstance(value, int | float | tuple) for value in self.values)
        return tuple(f"{name} {label}" for label in self.labels) if numbers else self.labels

    def applied(self, settings: Mapping[str, Any], place: int) -> dict[str, Any]:
        """Settings with the value at a place of the axis.

        Raises InputError if the text to replace is in no prompt.
        """
        value = self.values[place]
        if self.setting != REPLACE:
            return merged(settings, {self.setting: value})
        search = self.values[0]
        prompts = {name: str(settings.get(name) or "") for name in ("prompt", "negative_prompt")}
        if not any(search in text for text in prompts.values()):
            raise InputError(f"{search!r} is in no prompt; begin {REPLACE}= with words of the prompt")
        return {**settings, **{name: text.replace(search, value) for name, text in prompts.items()}}


def parse_axis(text: str) -> Axis:
    """`setting=value,value`; a value that holds a comma stands in double quotes, numbers may be ranges.

    `replace=red,blue` (AUTOMATIC1111's Prompt S/R) puts each of the values in the place of the first in the
    prompts. Raises InputError or UnknownNameError naming what is wrong.
    """
    word, equals, listed = text.partition("=")
    if not equals:
        raise InputError(f"{text!r} is no axis; write an option and its values, as in steps=5,10,20")
    setting = _setting(word)
    try:
        (parts,) = csv.reader([listed], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        raise InputError(f"cannot read the values of {text!r}; write them as in steps=5,10,20") from None
    parts = [part.strip() for part in parts if part.strip()]
    if setting == REPLACE:
        values: list[Any] = parts
    else:
        values = [read_setting(setting, one) for part in parts for one in _expanded(setting, part)]
    if not values:
        raise InputError(f"the axis {word} has no values; write some, as in steps=5,10,20")
    if len(values) > _MAX_VALUES:
        raise InputError(f"the axis {word} has {len(values)} values, the limit is {_MAX_VALUES}")
    return Axis(setting=setting, labels=tuple(map(_label, values)), values=tuple(values))


def _setting(word: str) -> str:
    if re.sub(r"[^a-z]", "", word.lower()) in {REPLACE, "promptsr"}:
        return REPLACE
    try:
        setting = find_setting(word)
    except UnknownNameError as error:
        raise InputError(f"{error} {REPLACE}=old,new changes words of the prompt") from None
    if setting == "count":
        raise InputError("count is no axis; for several pictures of each kind take seeds, as in seed=1-4")
    return setting


def _expanded(setting: str, part: str) -> list[str]:
    """The numbers of a range; any other text is itself."""
    found = _RANGE.fullmatch(part)
    whole = setting_types()[setting] in (int, int | None)
    if found is None or not (whole or setting_types()[setting] in (float, float | None)):
        return [part]
    first, last = Decimal(found[1]), Decimal(found[2])
    if found[5] is not None:
        count = int(found[5])
        step = (last - first) / max(count - 1, 1)
    else:
        step = Decimal(found[3] or found[4] or 1) * (1 if last >= first else -1)
        count = int((last - first) / step) + 1 if step else 0
    if not 1 <= count <= _MAX_VALUES:
        raise InputError(f"{part!r} is no range of 1 to {_MAX_VALUES} values; write first-last:step")
    numbers = (first + i * step for i in range(count))
    return [str(int(number) if number == int(number) else number) for number in numbers]


def _label(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return " ".join(map(_label, value)) if isinstance(value, tuple) else str(value)
