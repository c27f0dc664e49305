"""What a stranger's text says, taken no further than it was looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from sdrt.errors import InputError
from sdrt.strict_json import read_json

MAX_TEXT = 4_000_000  # characters; ComfyUI's largest graphs are a tenth of that
_MAX_NAME = 255
_MAX_INTEGER = 2**64
_FEW = 20
_SHOWN = 60
_T = TypeVar("_T")


def json_object(text: str, called: str) -> dict[str, Any]:
    """The JSON object that a text is. Raises InputError if it is anything else, or too long."""
    if len(text) > MAX_TEXT:
        raise InputError(f"its {called} has {len(text)} characters, more than {MAX_TEXT}")
    try:
        found = read_json(text, nul=True, constants=True)
    except json.JSONDecodeError:
        found = None
    except ValueError as error:
        raise InputError(f"its {called} is refused: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"its {called} is not a JSON object; another program changed it")
    return found


def typed(value: Any, kind: type[_T] | Any, called: str) -> _T:
    """`value` if it is of that type, an int as a float where one is expected, a list as a tuple.

    Raises InputError naming what it is called; NaN and infinity are no numbers.
    """
    try:
        found: _T = msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise InputError(f"{called} is {shown(value)}: {error}") from None
    if isinstance(found, int) and abs(found) > _MAX_INTEGER:
        raise InputError(f"{called} is {shown(value)}; expected a number of at most 64 bits")
    if isinstance(found, float) and not math.isfinite(found):
        raise InputError(f"{called} is {found}; expected a finite number")
    return found


def file_name(value: Any, called: str) -> str:
    """The last part of a path or a name, which names a file in a folder and nothing outside it."""
    text: str = typed(value, str, called)
    name = text.replace("\\", "/").rpartition("/")[2]
    if name in ("", ".", "..") or not name.isprintable() or len(name) > _MAX_NAME:
        raise InputError(f"{called} is {shown(value)}, which is no file's name")
    return name


def few(notes: Iterable[str]) -> tuple[str, ...]:
    """The first of them, each once; a stranger's text may give rise to thousands."""
    different = list(dict.fromkeys(notes))
    more = len(different) - _FEW
    return (*different[:_FEW], f"{more} more are left out") if more > 0 else tuple(different)


def shown(value: Any) -> str:
    """A stranger's value as a message may show it: short, on one line, text in quotes."""
    return repr(plain(value)) if isinstance(value, str) else plain(value)


def plain(value: Any) -> str:
    """The same without quotes."""
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    cut = text[:_SHOWN] + ("..." if len(text) > _SHOWN else "")
    return "".join(c if c.isprintable() else " " for c in cut)
