"""What each step of a run uses: a prompt and a number of steps to schedules of segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from sdrt.errors import InputError
from sdrt.prompt.attention import Break, Segment, parse_attention
from sdrt.prompt.grammar import parse_prompt
from sdrt.prompt.limits import check_characters, check_schedule
from sdrt.prompt.tree import Alternation, Edit, Node

Syntax: TypeAlias = Literal["a1111", "plain"]
Segments: TypeAlias = "tuple[Segment | Break, ...]"


class Entry(NamedTuple):
    """Segments that are used up to and including a step, from the step after the entry before."""

    last_step: int
    segments: Segments


@dataclass(frozen=True)
class PartPlan:
    """One of the prompts that AND joins.

    weight: multiplies the guidance scale of this part: with the unconditional prediction u and the parts'
    predictions c_i, guidance g gives u + sum_i weight_i * g * (c_i - u) (Liu et al. 2022, arXiv:2206.01714).
    schedule: entries in order of their steps; the last one's last_step is the number of steps.
    """

    weight: float
    schedule: tuple[Entry, ...]

    def at(self, step: int) -> Segments:
        """Segments of a step, the first being 1; steps outside of the run use its first or last entry."""
        for entry in self.schedule:
            if step <= entry.last_step:
                return entry.segments
        return self.schedule[-1].segments


def plan_prompt(
    text: str,
    steps: int,
    *,
    syntax: Syntax = "a1111",
    composition: bool = True,
    called: str = "prompt",
) -> tuple[PartPlan, ...]:
    """Parts of a prompt, at least one, each with its weight and what its steps use.

    syntax: `a1111` is AUTOMATIC1111's; in `plain`, brackets, colons, AND and BREAK are text like any other.
    composition: as in `parse_prompt`; False for negative prompts. called: what messages call the prompt.
    Raises InputError for weights that are NaN or infinite, for less than one step, and where a bound of
    `sdrt.prompt.limits` is passed.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}; expected 1 or more")
    if syntax == "plain":
        check_characters(len(text), called)
        return (PartPlan(1.0, (Entry(steps, (Segment(text),)),)),)
    parts = parse_prompt(text, composition=composition, called=called)
    return tuple(PartPlan(part.weight, _schedule(part.nodes, steps, called)) for part in parts)


def schedule_texts(nodes: tuple[Node, ...], steps: int, *, called: str = "prompt") -> list[tuple[int, str]]:
    """Texts of a sequence, each with the last step that uses it; neighbours differ."""
    texts: list[tuple[int, str]] = []
    seen: set[str] = set()
    size = 0
    for end in _ends(nodes, steps):
        pieces: list[str] = []
        _collect(nodes, end, steps, pieces)
        text = "".join(pieces)
        size += len(pieces) + (0 if text in seen else len(text))
        if seen:
            check_schedule(size, steps, called)
        seen.add(text)
        if texts and texts[-1][1] == text:
            texts.pop()
        texts.append((end, text))
    return texts


def _schedule(nodes: tuple[Node, ...], steps: int, called: str) -> tuple[Entry, ...]:
    parsed: dict[str, Segments] = {}
    entries: list[Entry] = []
    for end, text in schedule_texts(nodes, steps, called=called):
        if text not in parsed:
            parsed[text] = parse_attention(text, called=called)
        if entries and entries[-1].segments == parsed[text]:
            entries.pop()
        entries.append(Entry(end, parsed[text]))
    return tuple(entries)


def _ends(nodes: tuple[Node, ...], steps: int) -> Sequence[int]:
    """Steps after which the text may change, the last step included."""
    ends = {steps}
    for node in _changing(nodes):
        if isinstance(node, Alternation):
            return range(1, steps + 1)
        ends.add(node.last_step(steps) or steps)
    return sorted(ends)


def _changing(nodes: tuple[Node, ...]) -> Iterator[Edit | Alternation]:
    for node in nodes:
        if not isinstance(node, str):
            yield node
        if isinstance(node, Edit):
            yield from _changing(node.before)
            yield from _changing(node.after)


def _collect(nodes: tuple[Node, ...], step: int, steps: int, pieces: list[str]) -> None:
    """Append the texts that a step uses."""
    for node in nodes:
        if isinstance(node, str):
            pieces.append(node)
        elif isinstance(node, Edit):
            _collect(node.before if step <= node.last_step(steps) else node.after, step, steps, pieces)
        else:
            _collect(node.options[(step - 1) % len(node.options)], step, steps, pieces)
