"""Escapes that are known and still open: each with an input that shows it.

A campaign prints them, replays them, and does not fail for others of the same kind. An entry whose input no
longer escapes has to go: the tests say so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Known:
    """target: by its name. escape: as `Verdict.escape` has it. reproducer: the input. why: what is wrong.

    also: what else the same fault shows itself as. everywhere: other targets have it, too.
    """

    target: str
    escape: str
    reproducer: bytes
    why: str
    also: tuple[str, ...] = ()
    everywhere: bool = False

    def covers(self, target: str, escape: str) -> bool:
        """Whether an escape of a target is this one."""
        return escape in (self.escape, *self.also) and (self.everywhere or self.target == target)


KNOWN: tuple[Known, ...] = ()
