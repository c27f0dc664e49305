"""A comparison of two reports, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from sdrt_bench.compare import Change, Comparison
from sdrt_bench.readable import significant, unit_of

_HEAD = ("", "before", "after", "ratio", "")


def lines(found: Comparison) -> Iterator[str]:
    """The cautions first, so that nobody reads a figure without them."""
    for caution in found.cautions:
        yield f"caution: {caution}"
    if found.cautions:
        yield ""
    yield from _changes(found)
    for name, how in found.unshared.items():
        yield f"{name}: {how}"
    for how, gates in found.gates.items():
        for gate in gates:
            yield f"{how}: {gate}"
    for kind, differences in _differences(found):
        for name, (then, now) in differences.items():
            yield f"{kind} {name}: {_value(then)} -> {_value(now)}"


def _differences(found: Comparison) -> tuple[tuple[str, Mapping[str, tuple[object, object]]], ...]:
    return ("machine", found.machine), ("scenario", found.scenario), ("version", found.versions)


def _changes(found: Comparison) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [_HEAD]
    for peer, changes in groupby(found.changes, key=lambda change: change.peer):
        rows.append((peer, "", "", "", ""))
        rows += [_row(change) for change in changes]
    if len(rows) == 1:
        yield "no peer has figures in both reports"
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for name, *figures, verdict in rows:
        aligned = (figure.rjust(width) for figure, width in zip(figures, widths[1:-1], strict=True))
        yield "  ".join((name.ljust(widths[0]), *aligned, verdict)).rstrip()
    yield ""


def _row(change: Change) -> tuple[str, ...]:
    unit, factor = change.unit, 1.0
    values = (change.before, change.after)
    if unit == "s":
        shown = unit_of(value for value in values if value is not None)
        unit, factor = shown.name, shown.per_second
    show = "{:.5f}".format if change.what.endswith("SSIM") else significant  # 0.998 and 0.99996 are far apart
    before, after = ("equal" if value is None else show(value * factor) for value in values)
    ratio = significant(change.after / change.before) if change.after and change.before else ""
    label = f"  {change.what}, {unit}" if unit else f"  {change.what}"
    return label, before, after, ratio if change.unit in ("s", "MB") else "", change.verdict


def _value(value: object) -> str:
    return "none" if value is None else str(value)
