"""Text that means itself in a prompt."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"[\\()\[\]:|]|\b(?:AND|BREAK)\b")


def escape(text: str) -> str:
    r"""The text with a backslash before what the prompt language would read otherwise.

    `plan_prompt(escape(text), steps)` is one part of one segment, the text, but for whitespace at its end.
    A backslash before an ordinary character vanishes, hence `A\ND`, `B\REAK` and `\:\0.5`.
    """
    return _SPECIAL.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    special = match[0]
    if len(special) > 1:
        return f"{special[0]}\\{special[1:]}"
    following = match.string[match.end() : match.end() + 1]
    if special == ":" and (following.isalnum() or following.isspace() or following in {"+", "-", "."}):
        return "\\:\\"
    return "\\" + special
