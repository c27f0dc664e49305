"""The syntax tree of a prompt: parts, and texts that depend on the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Node: TypeAlias = "str | Edit | Alternation"


@dataclass(frozen=True)
class Edit:
    """`[before:after:when]`: `before` up to and including a step, then `after`.

    when: that step, or its fraction of all steps if `is_fraction`.
    """

    before: tuple[Node, ...]
    after: tuple[Node, ...]
    when: float
    is_fraction: bool

    def last_step(self, steps: int) -> int:
        """The last of the steps 1 to `steps` that uses `before`; 0 if none does."""
        step = self.when * steps if self.is_fraction else self.when
        return int(max(0, min(step, steps)))


@dataclass(frozen=True)
class Alternation:
    """`[a|b|c]`: a at step 1, b at step 2, c at step 3, a again at step 4."""

    options: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True)
class Part:
    """One of the prompts that AND joins, with its weight."""

    weight: float
    nodes: tuple[Node, ...]
