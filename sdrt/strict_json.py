"""JSON of strangers, which two readers could read differently or that no text can hold, is refused.

Python's reader takes the last of duplicate keys, NaN and Infinity, numbers and nesting without bound, lone
surrogates and NUL. Each of them has made a program check one thing and use another, or end in a traceback.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 64
"""Of lists and objects inside one another; graphs of ComfyUI have five."""
MAX_DIGITS = 64
"""Of an integer: what becomes a float without overflow."""


def read_json(text: str | bytes, *, nul: bool = False, constants: bool = False) -> Any:
    """The value of a JSON text, in a time that is linear in its length.

    nul: whether strings may hold the character NUL. constants: whether NaN and Infinity are read, which
    configs of diffusers' DPM-Solver have; the caller looks at them.
    Raises ValueError, which says in a few words what is wrong: syntax, a key that stands in an object twice,
    NaN, infinity, an integer of more than 64 digits, more than 64 levels, a lone surrogate, NUL.
    """
    try:
        value = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_int=_integer,
            parse_float=float if constants else _number,
            parse_constant=float if constants else _no_constant,
        )
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep") from None
    _check(value, nul)
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {_short(key)} stands in it twice")
            seen.add(key)
    return fields


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits, the limit is {MAX_DIGITS}")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:20]} is beyond a float's range")
    return number


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _check(value: Any, nul: bool) -> None:
    """Look at every level at once, without recursion; each value with the key that it stands under."""
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return
        level = [child for key, one in level for child in _children(key, one, nul)]
    raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")


def _children(key: str, value: Any, nul: bool) -> Iterator[tuple[str, Any]]:
    if isinstance(value, str):
        _check_text(key, value, nul)
    elif isinstance(value, list):
        yield from ((key, one) for one in value)
    elif isinstance(value, dict):
        for name in value:
            _check_text(name, name, nul)
        yield from value.items()


def _check_text(key: str, text: str, nul: bool) -> None:
    if not nul and "\0" in text:
        raise ValueError(f"{_short(key)} holds the character NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{_short(key)} holds a lone surrogate") from None


def _short(text: str) -> str:
    return repr(text[:60])
