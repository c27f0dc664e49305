"""A page as one HTML file that needs nothing else: no script, no network; light or dark as the reader is."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image as Images

from sdrt_bench import svg
from sdrt_bench.document import Block, Code, Gallery, Heading, Image, Page, Paragraph, Plot, Table
from sdrt_bench.svg import element, escaped

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
# nothing is loaded and nothing is run, whatever a report says
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_WIDEST = 256  # pixels of a picture: larger ones are in the files beside the page


def to_html(page: Page) -> str:
    """The whole file."""
    head = element(
        "head",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        element("title", escaped(page.title)),
        element("style", STYLE + svg.STYLE),
    )
    main = element(
        "main",
        element("h1", escaped(page.title)),
        element("p", escaped(page.summary), class_="summary"),
        *map(_block, page.blocks),
    )
    return f"<!doctype html>\n{element('html', head, element('body', main), lang='en')}\n"


def _block(block: Block) -> str:
    match block:
        case Heading(text):
            return "\n" + element("h2", escaped(text))
        case Paragraph(text):
            return element("p", escaped(text))
        case Table():
            return _table(block)
        case Plot():
            return element("figure", block.drawing, class_="drawing")
        case Gallery():
            return element("h3", escaped(block.title)) + element(
                "div", *map(_figure, block.images), class_="gallery"
            )
        case Code(text, _):
            return element("pre", element("code", escaped(text.rstrip())))


def _table(table: Table) -> str:
    def cells(name: str, row: tuple[str, ...]) -> str:
        return "".join(
            element(name, _spread(cell), class_="figure")
            if table.is_figures(column)
            else element(name, escaped(cell), class_="words")
            for column, cell in enumerate(row)
        )

    head = element("thead", element("tr", cells("th", table.head)))
    body = (element("tr", cells("td", row)) for row in table.rows)
    return element("div", element("table", head, element("tbody", "", *body)), class_="wide")


def _spread(cell: str) -> str:
    """A figure with its spread below it, so that many columns fit beside each other."""
    median, bracket, rest = cell.partition(" (")
    return (
        f"{escaped(median)} {element('span', escaped(f'({rest}'), class_='spread')}"
        if bracket
        else escaped(cell)
    )


def _figure(image: Image) -> str:
    data = base64.b64encode(_reduced(image)).decode()
    shown = element(
        "img", src=f"data:image/png;base64,{data}", alt=image.alternative, width=_shown_width(image)
    )
    return element("figure", shown, element("figcaption", escaped(image.caption)))


def _shown_width(image: Image) -> int:
    """Small pictures are enlarged by whole factors."""
    return min(image.width, _WIDEST) * max(128 // image.width, 1)


def _reduced(image: Image) -> bytes:
    if image.width <= _WIDEST:
        return image.png
    picture = Images.open(io.BytesIO(image.png))
    file = io.BytesIO()
    height = round(picture.height * _WIDEST / picture.width)
    picture.resize((_WIDEST, height), Images.Resampling.BOX).save(file, "PNG", optimize=True)
    return file.getvalue()
