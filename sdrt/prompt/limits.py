"""How large and how deeply nested a prompt may be, so that reading one takes a bounded time."""

from __future__ import annotations

from sdrt.errors import InputError

MAX_CHARACTERS = 1_000_000
"""Of a prompt, and of all the different texts that its steps use."""
MAX_ELEMENTS = 10_000
"""Brackets, colons, bars and escapes of one text."""
MAX_DEPTH = 100
"""Brackets open at one time."""
MAX_PARTS = 100
"""Parts joined by AND."""
MAX_WEIGHT = 1_000_000
"""Either sign, of attention and of parts: what float32 can multiply hidden states by without harm."""
MAX_CHUNKS = 512
"""Windows of the text encoder: 38,400 tokens in windows of 75."""


def check_characters(count: int, called: str) -> None:
    """Raise InputError when a prompt is too long."""
    if count > MAX_CHARACTERS:
        raise InputError(f"the {called} has {count} characters, the limit is {MAX_CHARACTERS}; shorten it")


def check_schedule(characters: int, steps: int, called: str) -> None:
    """Raise InputError when the texts that the steps use are too long together."""
    if characters > MAX_CHARACTERS:
        raise InputError(
            f"the {called} changes so often that its texts for {steps} steps have more than "
            f"{MAX_CHARACTERS} characters; shorten it or take out some of [a|b] and [a:b:0.5]"
        )


def check_elements(count: int, called: str) -> None:
    """Raise InputError when there is too much syntax."""
    if count > MAX_ELEMENTS:
        raise InputError(
            f"the {called} has more than {MAX_ELEMENTS} brackets, colons, bars and escapes; shorten it"
        )


def check_depth(depth: int, called: str) -> None:
    """Raise InputError when brackets are nested too deeply."""
    if depth > MAX_DEPTH:
        raise InputError(
            f"the {called} opens more than {MAX_DEPTH} brackets inside one another; "
            r"close some, or write \( and \[ for plain brackets"
        )


def check_parts(count: int, called: str) -> None:
    """Raise InputError when AND joins too many parts."""
    if count > MAX_PARTS:
        raise InputError(f"the {called} has {count} parts joined by AND, the limit is {MAX_PARTS}")


def check_weight(weight: float, called: str) -> None:
    """Raise InputError for a weight that is NaN, infinite or huge."""
    if not abs(weight) <= MAX_WEIGHT:
        raise InputError(
            f"the {called} has a weight of {weight:g}; expected a number from -{MAX_WEIGHT} to {MAX_WEIGHT}"
        )


def check_chunks(count: int, called: str) -> None:
    """Raise InputError when a text fills too many windows."""
    if count > MAX_CHUNKS:
        raise InputError(
            f"the {called} fills more than {MAX_CHUNKS} windows of the text encoder; "
            "shorten it or take out some of BREAK"
        )
