r"""Attention, escapes and BREAK: the text of a step to weighted segments.

The second pass of AUTOMATIC1111's prompt language (`parse_prompt_attention` in `modules/prompt_parser.py` of
stable-diffusion-webui):

    (x)      weight 1.1, multiplied into what is inside      [x]      weight 1/1.1
    (x:1.3)  weight 1.3: digits and points after the last colon, a sign before, spaces around
    \( \) \[ \] \\   the character; a backslash before anything else vanishes
    BREAK    as a word of its own: the chunk of tokens ends here

Nothing is malformed: a bracket that is never closed holds to the end, a closing one that closes nothing is
text, round and square ones may overlap, and what is no number is no weight.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from sdrt.prompt.limits import check_depth, check_elements, check_weight

ROUND = 1.1
SQUARE = 1 / 1.1


@dataclass(frozen=True)
class Segment:
    """Text that is tokenized on its own, and what the hidden states of its tokens are multiplied by."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class Break:
    """Here the chunk of tokens is filled up with padding."""


BREAK = Break()


@dataclass
class _Span:
    """What stands between two brackets, and so has one weight."""

    pieces: list[str | Break] = field(default_factory=list)
    weight: float = 1.0

    def add(self, text: str) -> None:
        first, *rest = _BREAK.split(text)
        self.pieces.append(first.rstrip() if rest else first)
        for index, piece in enumerate(rest, 1):
            self.pieces += [BREAK, piece.strip() if index < len(rest) else piece.lstrip()]


_BREAK = re.compile(r"\bBREAK\b")
_MARK = re.compile(r"\\[\\()\[\]]?|[()\[\]]|:\s*([^\s\\()\[\]:]+)\s*\)|:")
_WEIGHT = re.compile(r"[-+]?[.\d]+")


def parse_attention(text: str, *, called: str = "prompt") -> tuple[Segment | Break, ...]:
    """Segments of a text, none of them empty.

    BREAK between brackets breaks as well; in AUTOMATIC1111 it is a word there, of a negative weight.
    called: what messages call the text.
    Raises InputError for weights that are NaN or infinite, and where a bound of `limits` is passed.
    """
    spans = [_Span()]
    opened: dict[str, list[int]] = {"(": [], "[": []}  # the first span behind each open bracket

    def close(bracket: str, weight: float) -> None:
        for span in spans[opened[bracket].pop() :]:
            span.weight *= weight
        spans.append(_Span())

    position = 0
    for count, match in enumerate(_MARK.finditer(text), 1):
        check_elements(count, called)
        if position < match.start():
            spans[-1].add(text[position : match.start()])
        position = match.end()
        mark, number = match[0], match[1]
        if mark[0] == "\\":
            spans[-1].pieces.append(mark[1:])
        elif mark in opened:
            opened[mark].append(len(spans))
            check_depth(sum(map(len, opened.values())), called)
            spans.append(_Span())
        elif number and opened["("]:
            weight = _weight(number, called)
            if weight is None:
                spans[-1].pieces.append(":")
                spans[-1].add(mark[1:-1])
            close("(", ROUND if weight is None else weight)
        elif mark == ")" and opened["("]:
            close("(", ROUND)
        elif mark == "]" and opened["["]:
            close("[", SQUARE)
        else:
            spans[-1].add(mark)
    spans[-1].add(text[position:])
    while opened["("]:
        close("(", ROUND)
    while opened["["]:
        close("[", SQUARE)
    return _segments(spans, called)


def _weight(number: str, called: str) -> float | None:
    """The number; None if it is none and the brackets have their usual weight."""
    try:
        weight = float(number)
    except ValueError:  # a word, or 1.2.3
        return None
    if math.isfinite(weight) and not _WEIGHT.fullmatch(number):
        return None  # 1e3 is text in AUTOMATIC1111
    check_weight(weight, called)
    return weight


def _segments(spans: list[_Span], called: str) -> tuple[Segment | Break, ...]:
    """Texts joined while the weight stays the same: as in AUTOMATIC1111, they are tokenized as one."""
    segments: list[Segment | Break] = []
    texts: list[str] = []
    weight = 1.0

    def finish() -> None:
        if text := "".join(texts):
            check_weight(weight, called)
            segments.append(Segment(text, weight))
        texts.clear()

    for span in spans:
        for piece in span.pieces:
            if isinstance(piece, Break):
                finish()
                segments.append(piece)
            else:
                if span.weight != weight:
                    finish()
                    weight = span.weight
                texts.append(piece)
    finish()
    return tuple(segments)
