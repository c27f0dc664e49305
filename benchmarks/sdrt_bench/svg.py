"""SVG elements as text, and how wide text is without asking a browser."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

FONT_SIZE = 12.0
STYLE = (Path(__file__).parent / "plots.css").read_text(encoding="utf-8")
COLOURS = 8  # of plots.css: .c0 to .c7
_AVERAGE_CHARACTER = 0.6  # of the font's size, on the wide side for a sans-serif
_WIDE_FROM = 0x2E80  # CJK and beyond: a full square each
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def escaped(text: str) -> str:
    """Text for HTML and XML alike, within elements and attributes."""
    return escape(_NOT_XML.sub("\ufffd", text))


def element(name: str, *children: str, **attributes: str | float) -> str:
    """An element around markup. `class_` becomes class, `stroke_width` stroke-width."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"' for key, value in attributes.items()
    )
    return f"<{name}{written}>{''.join(children)}</{name}>" if children else f"<{name}{written}/>"


def text(x: float, y: float, content: str, **attributes: str | float) -> str:
    """A line of text whose baseline is at y."""
    return element("text", escaped(content), x=x, y=y, **attributes)


def line(x_1: float, y_1: float, x_2: float, y_2: float, class_: str) -> str:
    """A straight line."""
    return element("line", x1=x_1, y1=y_1, x2=x_2, y2=y_2, class_=class_)


def text_width(content: str) -> float:
    """About how wide a line is, in pixels; rather too much than too little."""
    wide = sum(ord(character) >= _WIDE_FROM for character in content)
    return FONT_SIZE * (_AVERAGE_CHARACTER * (len(content) - wide) + wide)


def shortened(content: str, width: float) -> str:
    """A line that fits, with an ellipsis where it was cut."""
    if text_width(content) <= width:
        return content
    while content and text_width(content + "…") > width:
        content = content[:-1]
    return content.rstrip() + "…"


def picture(name: str, width: float, height: float, title: str, description: str, *children: str) -> str:
    """A whole drawing, with what a screen reader says of it. name: unique in its page."""
    return element(
        "svg",
        element("title", escaped(title), id=f"{name}-title"),
        element("desc", escaped(description), id=f"{name}-desc"),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_value(width)} {_value(height)}",
        width=width,
        height=height,
        class_="plot",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def as_file(drawing: str) -> str:
    """A drawing that brings its own colours and ground, to stand alone in a file."""
    start, _, rest = drawing.partition(">")
    ground = element("rect", width="100%", height="100%", class_="ground")
    return f"{start}>{element('style', STYLE)}{ground}{rest}\n"


def marker(shape: int, x: float, y: float, class_: str, tip: str = "") -> str:
    """A mark at a place: shapes tell series apart where colours do not. tip: what hovering over it says."""
    r = 4.5
    points = (
        None,
        ((-r, -r), (r, -r), (r, r), (-r, r)),
        ((0, -1.2 * r), (1.2 * r, r), (-1.2 * r, r)),
        ((0, -1.3 * r), (1.3 * r, 0), (0, 1.3 * r), (-1.3 * r, 0)),
        ((0, 1.2 * r), (1.2 * r, -r), (-1.2 * r, -r)),
    )[shape % 5]
    children = (element("title", escaped(tip)),) if tip else ()
    if points is None:
        return element("circle", *children, cx=x, cy=y, r=r, class_=class_)
    around = " ".join(f"{_value(x + dx)},{_value(y + dy)}" for dx, dy in points)
    return element("polygon", *children, points=around, class_=class_)


def _value(value: str | float) -> str:
    return escaped(value) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
