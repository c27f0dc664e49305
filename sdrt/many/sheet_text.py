"""Text on sheets of pictures: measured, broken into lines, drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


class SheetText:
    """Pillow's own font. size: in pixels; line: from one line to the next."""

    def __init__(self, size: int) -> None:
        from PIL import ImageFont

        self._font = ImageFont.load_default(size)
        self.line = math.ceil(size * 1.3)

    def wrapped(self, text: str, width: float) -> list[str]:
        """Lines of whole words; a word that is wider than `width` has its own."""
        lines: list[str] = []
        for word in text.split():
            if lines and self._font.getlength(f"{lines[-1]} {word}") <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
        return lines

    def width(self, lines: Sequence[str]) -> int:
        """Of the longest line, in pixels."""
        return max((math.ceil(self._font.getlength(line)) for line in lines), default=0)

    def write(
        self, image: Image.Image, lines: Sequence[str], x: int, y: int, *, centred: bool = False
    ) -> None:
        """Draw lines from `y` down, each from `x` on or around it."""
        from PIL import ImageDraw

        draw = ImageDraw.Draw(image)
        for i, line in enumerate(lines):
            start = x - self._font.getlength(line) / 2 if centred else x
            draw.text((start, y + i * self.line), line, fill="black", font=self._font)
