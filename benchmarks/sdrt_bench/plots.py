"""Three kinds of plot as SVG: stacked bars, curves in panels, and a scatter of points.

Legends stand above the plot and take as many rows as they need, so that they cover nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sdrt_bench import svg
from sdrt_bench.axes import Axis, linear, logarithmic

WIDTH = 760.0
_LEGEND_ROW, _SWATCH, _GAP = 20.0, 16.0, 18.0
_BAR, _BAR_ROW = 18.0, 28.0
_PANEL_HEIGHT, _TICKS_HEIGHT = 190.0, 40.0
_LEFT, _RIGHT = 62.0, 20.0  # for the labels of a vertical axis, for half of the last one of a horizontal
_WIDEST_NAME, _WIDEST_LEGEND = 230.0, 330.0


@dataclass(frozen=True)
class Bar:
    """A bar of parts, from the left. end: the text behind it."""

    name: str
    parts: Mapping[str, float]
    end: str


@dataclass(frozen=True)
class Point:
    """A place on a curve; low, high: the spread around y."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Panel:
    """Curves over one pair of axes, by the name of the series."""

    title: str
    x_label: str
    curves: Mapping[str, Sequence[Point]]


@dataclass(frozen=True)
class Mark:
    """A point of a scatter plot. y None: beyond the top of the axis; low, high: the spread around x."""

    name: str
    x: float
    y: float | None
    low: float
    high: float
    tip: str


def bars(name: str, title: str, description: str, label: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars of parts, one below the other, all on one axis."""
    parts = list(dict.fromkeys(part for row in rows for part in row.parts))
    legend, top = _legend(parts, {part: number for number, part in enumerate(parts)}, marks=False)
    left = min(max(svg.text_width(row.name) for row in rows), _WIDEST_NAME) + 12
    right = WIDTH - max(svg.text_width(row.end) for row in rows) - 14
    bottom = top + _BAR_ROW * len(rows)
    axis = linear([sum(row.parts.values()) for row in rows], left, right)
    drawn = [*legend, *_vertical_grid(axis, top, bottom, label)]
    for number, row in enumerate(rows):
        y = top + _BAR_ROW * number + (_BAR_ROW - _BAR) / 2
        baseline = y + _BAR - 5
        drawn.append(svg.text(left - 8, baseline, svg.shortened(row.name, _WIDEST_NAME), text_anchor="end"))
        so_far = 0.0
        for part, value in row.parts.items():
            x, so_far = axis.at(so_far), so_far + value
            tip = svg.element("title", svg.escaped(f"{row.name}, {part}"))
            drawn.append(
                svg.element(
                    "rect", tip, x=x, y=y, width=axis.at(so_far) - x, height=_BAR,
                    class_=f"area {_colour(parts.index(part))}",
                )
            )  # fmt: skip
        drawn.append(svg.text(axis.at(so_far) + 6, baseline, row.end, class_="end"))
    return svg.picture(name, WIDTH, bottom + _TICKS_HEIGHT, title, description, *drawn)


def curves(
    name: str, title: str, description: str, y_label: str, panels: Sequence[Panel],
    series: Sequence[str], *, log: bool = False,
) -> str:  # fmt: skip
    """Panels side by side, all with the same series; log: of the vertical axis, which is then common."""
    numbers = {one: number for number, one in enumerate(series)}
    shown = [one for one in series if any(one in panel.curves for panel in panels)]
    legend, top = _legend(shown, numbers)
    top += 2 * _LEGEND_ROW  # the label of the vertical axis, the titles of the panels
    bottom = top + _PANEL_HEIGHT
    width = WIDTH / len(panels)
    drawn = [*legend, svg.text(0, top - 1.5 * _LEGEND_ROW, y_label, class_="label")]
    common = [value for panel in panels for value in _heights(panel)]
    for number, panel in enumerate(panels):
        left, right = number * width + _LEFT, (number + 1) * width - _RIGHT
        y = logarithmic(common, bottom, top) if log else linear(_heights(panel), bottom, top)
        across = [point.x for points in panel.curves.values() for point in points]
        x = linear(across, left, right, whole=True, count=4)
        drawn += [
            svg.text(left, top - 8, svg.shortened(panel.title, right - left), class_="name"),
            *_horizontal_grid(y, left, right),
            *_vertical_grid(x, top, bottom, panel.x_label),
        ]
        for one, points in panel.curves.items():
            drawn += _curve(one, numbers[one], points, x, y)
    return svg.picture(name, WIDTH, bottom + _TICKS_HEIGHT, title, description, *drawn)


def scatter(
    name: str, title: str, description: str, x_label: str, y_label: str, beyond: str,
    marks: Sequence[Mark], series: Sequence[str],
) -> str:  # fmt: skip
    """Points with their spread in x. beyond: what the row above the axis is called, for marks without a y."""
    numbers = {one: number for number, one in enumerate(series)}
    legend, top = _legend([mark.name for mark in marks], numbers)
    top += _LEGEND_ROW
    above = top + 14  # where marks without a y lie
    start = top + 34
    bottom = start + 1.3 * _PANEL_HEIGHT
    left, right = _LEFT + 12, WIDTH - _RIGHT
    x = linear([end for mark in marks for end in (mark.low, mark.high)], left, right, count=8)
    y = linear([mark.y for mark in marks if mark.y is not None], bottom, start)
    drawn = [
        *legend,
        svg.text(0, top - 8, y_label, class_="label"),
        svg.text(left - 8, above + 4, beyond, text_anchor="end", class_="tick"),
        svg.line(left, above, right, above, "grid"),
        *_horizontal_grid(y, left, right),
        *_vertical_grid(x, top, bottom, x_label),
    ]
    for mark in marks:
        number, height = numbers[mark.name], above if mark.y is None else y.at(mark.y)
        drawn += [
            svg.line(x.at(mark.low), height, x.at(mark.high), height, f"spread {_colour(number)}"),
            svg.marker(number, x.at(mark.x), height, f"mark {_colour(number)}", mark.tip),
        ]
    return svg.picture(name, WIDTH, bottom + _TICKS_HEIGHT, title, description, *drawn)


def roofline(
    name: str, title: str, description: str, slope: float, roofs: Mapping[str, float],
    marks: Sequence[Mark], series: Sequence[str],
) -> str:  # fmt: skip
    """Marks under roofs, on logarithmic axes. slope: y over x where the roof rises; roofs: y by name."""
    numbers = {one: number for number, one in enumerate(series)}
    legend, top = _legend(dict.fromkeys(mark.name for mark in marks), numbers)
    top += _LEGEND_ROW
    bottom = top + 1.3 * _PANEL_HEIGHT
    corners = [roof / slope for roof in roofs.values()]
    heights = [mark.y for mark in marks if mark.y is not None]
    x = logarithmic([*(mark.x for mark in marks), *corners], _LEFT, WIDTH - _RIGHT)
    y = logarithmic([*heights, *roofs.values()], bottom, top)
    drawn = [
        *legend,
        svg.text(0, top - 8, "TFLOP / s", class_="label"),
        *_horizontal_grid(y, x.start, x.end),
        *_vertical_grid(x, top, bottom, "operations per byte"),
    ]
    if roofs:
        lowest, highest = max(x.low, y.low / slope), max(corners)
        drawn.append(
            svg.line(x.at(lowest), y.at(slope * lowest), x.at(highest), y.at(max(roofs.values())), "roof")
        )
    for label, roof in roofs.items():
        drawn.append(svg.line(x.at(roof / slope), y.at(roof), x.end, y.at(roof), "roof"))
        drawn.append(svg.text(x.end - 4, y.at(roof) - 5, label, text_anchor="end", class_="label"))
    for mark in marks:
        if mark.y is not None:
            colour = _colour(numbers[mark.name])
            drawn.append(
                svg.marker(numbers[mark.name], x.at(mark.x), y.at(mark.y), f"mark {colour}", mark.tip)
            )
    return svg.picture(name, WIDTH, bottom + _TICKS_HEIGHT, title, description, *drawn)


def _colour(number: int) -> str:
    return f"c{number % svg.COLOURS}"


def _legend(
    names: Iterable[str], numbers: Mapping[str, int], *, marks: bool = True
) -> tuple[list[str], float]:
    """Entries in rows from the top, and where the space below them begins."""
    drawn: list[str] = []
    x, y = 0.0, 14.0
    for name in names:
        label = svg.shortened(name, _WIDEST_LEGEND)
        width = _SWATCH + svg.text_width(label) + _GAP
        if x and x + width > WIDTH:
            x, y = 0.0, y + _LEGEND_ROW
        colour = _colour(numbers[name])
        if marks:
            drawn.append(svg.marker(numbers[name], x + 6, y - 4, f"mark {colour}"))
        else:
            drawn.append(svg.element("rect", x=x, y=y - 10, width=12, height=12, class_=f"area {colour}"))
        drawn.append(svg.text(x + _SWATCH, y, label))
        x += width
    return drawn, y + 12


def _heights(panel: Panel) -> list[float]:
    """All that a vertical axis must reach."""
    points = [point for points in panel.curves.values() for point in points]
    return [y for point in points for y in (point.y, point.high) if y is not None]


def _curve(name: str, number: int, points: Sequence[Point], x: Axis, y: Axis) -> list[str]:
    """A curve, the spreads around it and its marks. A logarithmic axis has no place for zero: left out."""
    placed = [point for point in points if not y.log or point.y > 0]
    if not placed:
        return []
    colour = _colour(number)
    corners = " ".join(f"{x.at(point.x):.1f},{y.at(point.y):.1f}" for point in placed)
    drawn = [svg.element("polyline", points=corners, class_=f"curve {colour}")]
    for point in placed:
        place = x.at(point.x)
        if point.low is not None and point.high is not None:
            drawn.append(svg.line(place, y.at(point.low), place, y.at(point.high), f"spread {colour}"))
    return [
        *drawn,
        *(svg.marker(number, x.at(point.x), y.at(point.y), f"mark {colour}", name) for point in placed),
    ]


def _vertical_grid(axis: Axis, top: float, bottom: float, label: str) -> list[str]:
    """Lines at the ticks of a horizontal axis, their values below, and below these what they are."""
    drawn = [svg.line(axis.start, bottom, axis.end, bottom, "axis")]
    for x, value in axis.labels():
        drawn.append(svg.line(x, top, x, bottom, "grid"))
        drawn.append(svg.text(x, bottom + 15, value, text_anchor="middle", class_="tick"))
    middle = (axis.start + axis.end) / 2
    return [*drawn, svg.text(middle, bottom + 32, label, text_anchor="middle", class_="label")]


def _horizontal_grid(axis: Axis, left: float, right: float) -> list[str]:
    """Lines at the ticks of a vertical axis, their values on the left."""
    drawn = [svg.line(left, axis.start, left, axis.end, "axis")]
    for y, value in axis.labels():
        drawn.append(svg.line(left, y, right, y, "grid"))
        drawn.append(svg.text(left - 7, y + 4, value, text_anchor="end", class_="tick"))
    return drawn
