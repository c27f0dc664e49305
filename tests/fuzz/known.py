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


KNOWN: tuple[Known, ...] = (
    Known(
        target="text",
        escape="more than 2 s, automatic1111.py:_hashes",
        reproducer=b'parameters\na\nSteps: 1, Seed: 1, TI hashes: "x: 0' + b"}" * 80_000 + b'"',
        why="the time to find names and hashes grows with the square of the text",
        everywhere=True,
    ),
    Known(
        target="picture.png",
        escape="MemoryError, image_reading.py:loaded_image",
        reproducer=bytes.fromhex(
            "89504e470d0a1a0a0000000d49484452000000080000000808040000006e067600ffe00013494441540000"
        ),
        why="Pillow asks for as many bytes as a PNG's chunk says that it has, up to 4 GB",
        everywhere=True,
    ),
    Known(
        target="picture.png",
        escape="AssertionError, source_images.py:_has_hole",
        reproducer=bytes.fromhex(
            "89504e470d0a1a0a0000000d4948445200000008000000080803000000f3d14eb9"
            "0000000c49444154789c6360a00e0000"
        ),
        why="Pillow asserts that a picture of a palette has one, when it is asked for its transparency",
    ),
)
