"""What a page is made of, whatever it is written as. All text is plain: who writes it escapes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """The title of a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """A few sentences."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of texts under heads. words: how many columns at the left, and at the right, are not figures."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, int] = (1, 0)

    def is_figures(self, column: int) -> bool:
        """Whether a column is aligned as figures are."""
        left, right = self.words
        return left <= column < len(self.head) - right


@dataclass(frozen=True)
class Plot:
    """A drawing. name: of its file; alternative: for who cannot see it."""

    name: str
    drawing: str
    alternative: str


@dataclass(frozen=True)
class Image:
    """A picture in a PNG file of the report's folder. caption: what stands below it."""

    file: str
    png: bytes
    width: int
    alternative: str
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side, under a line that says what they show."""

    title: str
    images: tuple[Image, ...]


@dataclass(frozen=True)
class Code:
    """Text to be copied as it is."""

    text: str
    language: str


Block = Heading | Paragraph | Table | Plot | Gallery | Code


@dataclass(frozen=True)
class Page:
    """Title, the result in a sentence, and everything else."""

    title: str
    summary: str
    blocks: tuple[Block, ...]
