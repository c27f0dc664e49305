"""AUTOMATIC1111's text: prompt, negative prompt, and one line of settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from sdrt.strict_json import read_json

_STEPS = re.compile(r"^Steps: ?\d+,", re.MULTILINE)
_NEGATIVE = re.compile(r"(?:\A|\n)Negative prompt: ?")
# no two parts of it can match the same text: a stranger's picture must not make it slow
_PAIR = re.compile(r'\s*(\w[\w \-/]*):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')


def format_parameters(prompt: str, negative_prompt: str, settings: Mapping[str, object]) -> str:
    """The text, as modules/processing.py of AUTOMATIC1111 lays it out; settings that are None are left out.

    A NUL would end a chunk early and is written as U+FFFD.
    """
    line = ", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items() if value is not None)
    negative = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{line}".replace("\0", "\ufffd")


def parse_parameters(text: str) -> dict[str, str]:
    """The text back to its fields, `Prompt` and `Negative prompt` among them."""
    text = text.replace("\r\n", "\n")
    body, last = _without_settings(text)
    pairs = dict(_pairs(last))
    if "Steps" not in pairs:
        body, pairs = text, {}
    found = _NEGATIVE.search(body)
    prompt, negative = (body[: found.start()], body[found.end() :]) if found else (body, "")
    fields = {key.strip(): _unquoted(value.strip()) for key, value in pairs.items()}
    return {"Prompt": prompt, **({"Negative prompt": negative} if negative else {}), **fields}


def _without_settings(text: str) -> tuple[str, str]:
    """What stands above the line of settings, and that line: extensions write more lines behind it."""
    body, _, last = text.rpartition("\n")
    if not last.lstrip().startswith("Steps:"):
        starts = [found.start() for found in _STEPS.finditer(text)]
        if starts:
            body, last = text[: max(starts[-1] - 1, 0)], text[starts[-1] :].partition("\n")[0]
    return body, last


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(line):
        pair = _PAIR.match(line, at)
        listed = None if pair is None else _json_at(line, pair.start(2))
        if pair is not None and listed is not None:  # as Civitai writes its resources
            yield pair[1], line[pair.start(2) : listed]
            at = line.find(",", listed) + 1 or len(line)
            continue
        if pair:
            yield pair[1], pair[2]
        at = pair.end() if pair else (line.find(",", at) + 1 or len(line))


def _json_at(line: str, at: int) -> int | None:
    """Where a JSON list or object that starts at a place ends; None if there is none."""
    if line[at : at + 1] not in ("[", "{"):
        return None
    try:
        return json.JSONDecoder().raw_decode(line, at)[1]
    except (ValueError, RecursionError):
        return None


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:\n"]', text) else text


def _unquoted(text: str) -> str:
    if text.startswith('"') and text.endswith('"'):
        try:
            return str(read_json(text, nul=True, constants=True))
        except ValueError:
            return text
    return text
