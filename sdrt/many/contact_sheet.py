"""All pictures of a run on one sheet, or a comparison with the values of its axes beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdrt.errors import InputError
from sdrt.image_reading import loaded_image
from sdrt.many.sheet_text import SheetText

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_GAP, _MARGIN = 4, 8  # pixels
_BESIDE = 1.5  # a sheet is read like a page on its side
_NARROWEST, _WIDEST_LABEL = 72, 160  # columns with labels; labels of rows
_MAX_PIXELS = 64_000_000  # larger sheets are scaled down


def best_columns(count: int, width: int, height: int) -> int:
    """Columns for `count` pictures of a size: about three to two in all, with few empty places."""

    def cost(columns: int) -> float:
        rows = math.ceil(count / columns)
        shape = abs(math.log(columns * width / (rows * height) / _BESIDE))
        return shape + (columns * rows - count) / count

    return min(range(1, count + 1), key=cost)


class ContactSheet:
    """`count` pictures in rows of `columns`, the first at the top left; `image` is the sheet.

    cell: (width, height) of the largest picture. x_labels: over the columns; y_labels: left of the rows;
    title: over all. Each may be absent.
    """

    def __init__(
        self,
        count: int,
        columns: int,
        cell: tuple[int, int],
        *,
        x_labels: Sequence[str] = (),
        y_labels: Sequence[str] = (),
        title: str = "",
    ) -> None:
        from PIL import Image

        rows = math.ceil(count / columns)
        self._columns = columns
        # labels are not scaled: they are read beside pictures that are
        self._scale = min(1.0, math.sqrt(_MAX_PIXELS / (columns * rows * cell[0] * cell[1])))
        width, height = self._scaled(cell)
        text = SheetText(size=max(13, min(width // 16, 24)))
        above = [text.wrapped(label, max(width, _NARROWEST)) for label in x_labels]
        beside = [text.wrapped(label, _WIDEST_LABEL) for label in y_labels]
        width = max([width, *map(text.width, above)])
        left = _MARGIN + (max(map(text.width, beside)) + 2 * _GAP if beside else 0)
        over = text.wrapped(title, left + columns * (width + _GAP))
        lines = len(over) + max(map(len, above), default=0)
        self._cell = (width, height)
        self._origin = (left, _MARGIN + lines * text.line + (_GAP if lines else 0))
        right, bottom = self._corner(rows * columns - 1)
        self.image = Image.new("RGB", (right + width + _MARGIN, bottom + height + _MARGIN), "white")

        text.write(self.image, over, _MARGIN, _MARGIN)
        for column, label in enumerate(above):
            x, y = self._corner(column)
            text.write(self.image, label, x + width // 2, y - _GAP - len(label) * text.line, centred=True)
        for row, label in enumerate(beside):
            _, y = self._corner(row * columns)
            text.write(self.image, label, _MARGIN, y + (height - len(label) * text.line) // 2)

    def place(self, index: int, pixels: NDArray[np.uint8]) -> None:
        """Put a picture, [H, W, 3], where the `index`-th belongs, from 0."""
        from PIL import Image

        picture = Image.fromarray(pixels)
        if self._scale < 1:
            picture = picture.resize(self._scaled(picture.size), Image.Resampling.LANCZOS)
        x, y = self._corner(index)
        width, height = self._cell
        self.image.paste(picture, (x + (width - picture.width) // 2, y + (height - picture.height) // 2))

    def place_file(self, index: int, path: Path) -> None:
        """As `place`, a picture of a file."""
        import numpy as np

        with loaded_image(path) as picture:
            self.place(index, np.asarray(picture.convert("RGB")))

    def is_in(self, path: Path) -> bool:
        """Whether a file is this sheet."""
        try:
            with loaded_image(path) as other:
                return (
                    other.size == self.image.size and other.convert("RGB").tobytes() == self.image.tobytes()
                )
        except InputError:
            return False

    def _scaled(self, size: tuple[int, int]) -> tuple[int, int]:
        width, height = (max(round(side * self._scale), 1) for side in size)
        return width, height

    def _corner(self, index: int) -> tuple[int, int]:
        row, column = divmod(index, self._columns)
        (left, top), (width, height) = self._origin, self._cell
        return left + column * (width + _GAP), top + row * (height + _GAP)
