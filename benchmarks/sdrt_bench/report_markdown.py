"""A page as Markdown, with plots and pictures in files beside it."""

from __future__ import annotations

import re

from sdrt_bench.document import Block, Code, Gallery, Heading, Image, Page, Paragraph, Plot, Table

PLOTS = "plots"
_COLUMNS = 4  # pictures side by side
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$#])")


def to_markdown(page: Page) -> str:
    """The page; plots are taken from plots/NAME.svg, pictures from where each says."""
    parts = [f"# {escaped(page.title)}", escaped(page.summary), *map(_block, page.blocks)]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Plain text on one line that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def table(block: Table) -> str:
    """A table of GitHub's Markdown."""
    align = ("--:" if block.is_figures(column) else "---" for column in range(len(block.head)))
    rows = (block.head, *block.rows)
    head, *body = (f"| {' | '.join(map(escaped, row))} |" for row in rows)
    return "\n".join((head, f"|{'|'.join(align)}|", *body))


def _block(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {escaped(text)}"
        case Paragraph(text):
            return escaped(text)
        case Table():
            return table(block)
        case Plot():
            return f"![{escaped(block.alternative)}]({PLOTS}/{block.name}.svg)"
        case Gallery():
            return _gallery(block)
        case Code(text, language):
            return _code(text, language)


def _code(text: str, language: str) -> str:
    """In a fence that is longer than any within."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _gallery(gallery: Gallery) -> str:
    """A table without a head, as far as Markdown has such a thing: its head is the first row of pictures."""
    images = gallery.images
    rows = [images[start : start + _COLUMNS] for start in range(0, len(images), _COLUMNS)]
    width = max(map(len, rows))
    lines = []
    for row in rows:
        blank = [""] * (width - len(row))
        lines.append([*map(_shown, row), *blank])
        lines.append([*(escaped(image.caption) for image in row), *blank])
    lines.insert(1, ["---"] * width)
    return "\n".join((f"**{escaped(gallery.title)}**\n", *(f"| {' | '.join(line)} |" for line in lines)))


def _shown(image: Image) -> str:
    return f"![{escaped(image.alternative)}]({image.file})"
