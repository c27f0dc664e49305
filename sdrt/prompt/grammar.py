r"""Composition, editing and alternation: text to syntax tree.

The language is AUTOMATIC1111's (`modules/prompt_parser.py` of stable-diffusion-webui). It is read in two
passes, and this is the first:

    prompt       part ("AND" part)*                     AND is a word of its own, also between brackets
    part         sequence (":" number)?                 weight of the part, 1 if absent
    sequence     (text | "(" sequence (":" sequence)? ")" | "[" sequence "]" | edit | alternation)*
    edit         "[" (sequence ":")? sequence ":" number "]"
    alternation  "[" sequence ("|" sequence)+ "]"
    text         characters other than \ ( ) [ ] : | or a backslash and any character

Brackets and colons that fit no rule are text. Where a bar or a backslash fits no rule, the part has no edits
or alternations at all. Attention, escapes and BREAK stay in the text: they are read once the text of a step
is known (`sdrt.prompt.attention`), since `(x:[1.1:1.4:0.5])` edits a weight.

AUTOMATIC1111's grammar is ambiguous where brackets are text: `[a:b:3])` can be an edit and a bracket, or text
throughout. Its Earley parser answers either, for some prompts differently from one run to the next; here
what can be an edit or an alternation is one.

A part is parsed in one pass with a stack and no backtracking. Spans of balanced brackets are nested or
disjoint, so a closing bracket completes the innermost open one, or proves that no open one can be completed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest

from sdrt.prompt.limits import check_characters, check_depth, check_elements, check_parts, check_weight
from sdrt.prompt.tree import Alternation, Edit, Node, Part


def parse_prompt(text: str, *, composition: bool = True, called: str = "prompt") -> tuple[Part, ...]:
    """Parts of a prompt, at least one.

    composition: whether AND and the weight after a part's last colon are read. AUTOMATIC1111 reads them in
    prompts and not in negative prompts. called: what messages call the prompt.
    Raises InputError where a bound of `sdrt.prompt.limits` is passed. Malformed syntax is text, not an error.
    """
    check_characters(len(text), called)
    if not composition:
        return (Part(1.0, _parse_part(text, called)),)
    parts = _AND.split(text)
    check_parts(len(parts), called)
    weighted = [split_weight(part, called) for part in parts]
    return tuple(Part(weight, _parse_part(part, called)) for part, weight in weighted)


_AND = re.compile(r"\bAND\b")
_PART_WEIGHT = re.compile(r"\s*[-+]?(\d+\.?|\d*\.\d+)")
_STEP = re.compile(r"\s*[-+]?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\s*")
_MARK = re.compile(r"\\.|[\\()\[\]:|]")
_CLOSING = {"(": ")", "[": "]"}


def split_weight(part: str, called: str = "prompt") -> tuple[str, float]:
    """`text : weight` apart, 1 where there is no weight; whitespace after the text is dropped."""
    part = part.rstrip()
    text, colon, number = part.rpartition(":")
    if not colon or not _PART_WEIGHT.fullmatch(number):
        return part, 1.0
    weight = float(number)
    check_weight(weight, called)
    return text.rstrip(), weight


class _Open:
    """An open bracket and what follows it, divided by colons and bars; the root has no sign of its own."""

    def __init__(self, bracket: str) -> None:
        self.bracket = bracket
        self.separators: list[str] = []
        self.sequences: list[list[Node]] = [[]]

    def as_text(self) -> list[Node]:
        """The bracket and all that follows it, unchanged."""
        nodes: list[Node] = [self.bracket]
        for sequence, separator in zip_longest(self.sequences, self.separators, fillvalue=""):
            nodes += sequence
            nodes.append(separator)
        return nodes

    def closed(self, closing: str) -> list[Node] | None:
        """What the bracket is, closed like this; None if that fits no rule."""
        if _CLOSING.get(self.bracket) != closing:
            return None
        if not self.separators or (self.bracket == "(" and self.separators == [":"]):
            return [*self.as_text(), closing]
        if self.bracket == "(":
            return None
        sequences = [_joined(sequence) for sequence in self.sequences]
        if all(separator == "|" for separator in self.separators):
            return [Alternation(tuple(sequences))]
        if self.separators not in ([":"], [":", ":"]):
            return None
        *texts, when = sequences
        if len(when) != 1 or not isinstance(when[0], str) or not _STEP.fullmatch(when[0]):
            return None
        number = float(when[0])
        before, after = texts if len(texts) == 2 else ((), texts[0])
        return [Edit(before, after, number, is_fraction=number < 1 or "." in when[0])]


def _parse_part(text: str, called: str) -> tuple[Node, ...]:
    stack = [_Open("")]
    position = 0
    for count, match in enumerate(_MARK.finditer(text), 1):
        check_elements(count, called)
        mark = match[0]
        if len(mark) == 2:  # an escape, which is text
            continue
        stack[-1].sequences[-1].append(text[position : match.start()])
        position = match.end()
        if mark in _CLOSING:
            stack.append(_Open(mark))
            check_depth(len(stack) - 1, called)
        elif mark in ")]":
            closed = stack[-1].closed(mark)
            if closed is not None:
                stack.pop()
            elif _give_up_brackets(stack):
                closed = [mark]
            else:
                return (text,)
            stack[-1].sequences[-1] += closed
        elif mark == ":" and len(stack) == 1:
            stack[0].sequences[-1].append(mark)
        elif mark == ":" or (mark == "|" and stack[-1].bracket == "["):
            stack[-1].separators.append(mark)
            stack[-1].sequences.append([])
        else:
            return (text,)
    stack[-1].sequences[-1].append(text[position:])
    return _joined(stack[0].sequences[0]) if _give_up_brackets(stack) else (text,)


def _give_up_brackets(stack: list[_Open]) -> bool:
    """Make text of all open brackets; False if that leaves a bar."""
    root, *opened = stack
    del stack[1:]
    for bracket in opened:
        if "|" in bracket.separators:
            return False
        root.sequences[-1] += bracket.as_text()
    return True


def _joined(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Neighbouring texts as one, empty ones dropped."""
    joined: list[Node] = []
    texts: list[str] = []
    for node in [*nodes, None]:
        if isinstance(node, str):
            texts.append(node)
            continue
        if text := "".join(texts):
            joined.append(text)
        texts = []
        if node is not None:
            joined.append(node)
    return tuple(joined)
