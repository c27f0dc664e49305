"""The plots of a report's pages; None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sdrt_bench import plots, roofline
from sdrt_bench.document import Plot
from sdrt_bench.plots import Bar, Mark, Panel, Point
from sdrt_bench.readable import percent, significant, unit_of
from sdrt_bench.report import Report, Speed
from sdrt_bench.report_figures import compared, decibels, measured, teraflops

_PANELS = 3  # in a row
_AXES = {
    "batch": ("Batch", "pictures at once"),
    "sizes": ("Size", "width and height, pixels"),
    "steps": ("Steps", "steps"),
}


def latency(report: Report, name: str = "latency") -> list[Plot]:
    """Of which stages a picture's time consists: in seconds, and in shares of each peer's own.

    name: of the plots, unique in their page.
    """
    found = {name: speed for name, (_, speed) in measured(report).items()}
    if not found:
        return []
    unit = unit_of(speed.picture.median for speed in found.values())
    rows = [
        Bar(
            peer,
            {stage: unit.per_second * seconds for stage, seconds in _stages(speed, report.scenario.batch)},
            f"{unit.show(speed.picture.median)} {unit.name}",
        )
        for peer, speed in found.items()
    ]
    alternative = "Time of a picture by stage. " + _listed(f"{row.name} {row.end}" for row in rows)
    drawing = plots.bars(name, "Latency split", alternative, f"{unit.name} a picture", rows)
    return [Plot(name, drawing, alternative), _shares(rows, f"{name}-shares")]


def _shares(rows: Sequence[Bar], name: str) -> Plot:
    """The same bars, all equally long: how a quick peer spends its time is seen beside a slow one."""
    shares = []
    for row in rows:
        whole = sum(row.parts.values()) or 1.0
        parts = {part: 100 * value / whole for part, value in row.parts.items()}
        largest = max(parts, key=lambda part: parts[part])
        shares.append(Bar(row.name, parts, f"{largest} {significant(parts[largest])} %"))
    alternative = "The largest stage of each. " + _listed(f"{row.name} {row.end}" for row in shares)
    drawing = plots.bars(name, "Latency split in shares", alternative, "% of a picture", shares)
    return Plot(name, drawing, alternative)


def _stages(speed: Speed, batch: int) -> Iterator[tuple[str, float]]:
    """Medians, in seconds of one picture. The U-Net is what others leave: its runs may be of two kinds."""
    if speed.text is None or speed.vae is None or speed.rest is None:
        yield "not told apart", speed.picture.median
        return
    text, vae, rest = (max(stage.median, 0.0) / batch for stage in (speed.text, speed.vae, speed.rest))
    yield "text encoder", text
    yield "U-Net", max(speed.picture.median - text - vae - rest, 0.0)
    yield "VAE", vae
    yield "everything else", rest


def cold_start(report: Report) -> Plot | None:
    """From starting a process to its first picture."""
    rows = [
        Bar(
            name,
            {"import": speed.start.median, "load": speed.load.median, "first picture": speed.first.median},
            f"{significant(speed.start.median + speed.load.median + speed.first.median)} s",
        )
        for name, (_, speed) in measured(report).items()
    ]
    if not rows:
        return None
    alternative = "Time to the first picture. " + _listed(f"{row.name} {row.end}" for row in rows)
    return Plot("cold-start", plots.bars("cold-start", "Cold start", alternative, "s", rows), alternative)


def of_peak(report: Report) -> Plot | None:
    """The share of the fastest matrix product that the U-Net reaches."""
    rows = [
        Bar(
            name,
            {report.scenario.peers[name].precision: 100 * peer.of_peak},
            f"{percent(peer.of_peak)}: {teraflops(report, name)}",
        )
        for name, (peer, _) in measured(report).items()
        if peer.of_peak is not None
    ]
    if not rows:
        return None
    alternative = "Share of the machine's matrix peak. " + _listed(f"{row.name} {row.end}" for row in rows)
    label = "% of the machine's fastest matrix product in the same precision"
    return Plot(
        "of-peak", plots.bars("of-peak", "Share of the matrix peak", alternative, label, rows), alternative
    )


def rooflines(report: Report) -> list[Plot]:
    """What each peer reaches in U-Net and VAE, under what the machine could."""
    found, roofs = roofline.reached(report), roofline.roofs(report)
    drawn = []
    for graph in dict.fromkeys(one.graph for one in found) if roofs else ():
        marks = []
        for one in found:
            if one.graph == graph:
                rate = one.rate / 1e12
                tip = f"{one.peer}: {significant(rate)} TFLOP/s at {significant(one.intensity)} per byte"
                marks.append(Mark(one.peer, one.intensity, rate, rate, rate, tip))
        alternative = f"{graph}. " + _listed(mark.tip for mark in marks)
        name = f"roofline-{graph.lower()}"
        labels = {f"{precision} products": rate / 1e12 for precision, rate in roofs.items()}
        drawing = plots.roofline(
            name,
            f"Roofline, {graph}",
            alternative,
            report.bandwidth / 1e12,
            labels,
            marks,
            list(report.peers),
        )
        drawn.append(Plot(name, drawing, alternative))
    return drawn


def scaling(report: Report) -> Plot | None:
    """How time grows with batch, size and steps."""
    if not report.scaling:
        return None
    unit = unit_of(point.seconds.median for point in report.scaling)
    panels = []
    for axis in dict.fromkeys(point.axis for point in report.scaling):
        title, label = _AXES.get(axis, (axis, axis))
        lines: dict[str, list[Point]] = {}
        for point in report.scaling:
            if point.axis == axis:
                least, middle, p90 = (
                    unit.per_second * value
                    for value in (point.seconds.least, point.seconds.median, point.seconds.p90)
                )
                lines.setdefault(point.peer, []).append(Point(point.value, middle, least, p90))
        panels.append(Panel(title, label, lines))
    alternative = f"Time of a job against batch, size and steps, in {unit.name}. " + _listed(
        f"{panel.title}, {peer}: {significant(line[0].y)} at {line[0].x:g} to "
        f"{significant(line[-1].y)} at {line[-1].x:g}"
        for panel in panels
        for peer, line in panel.curves.items()
    )
    label = f"{unit.name} a job"
    drawing = plots.curves("scaling", "Scaling", alternative, label, panels, list(report.peers))
    return Plot("scaling", drawing, alternative)


def divergence(report: Report) -> list[Plot]:
    """How far the latents are from the reference's after each step; a few samplers to a plot."""
    near = {name: quality.divergence for name, quality in compared(report).items()}
    samplers = list(dict.fromkeys(sampler for curves in near.values() for sampler in curves))
    drawn = []
    for number, start in enumerate(range(0, len(samplers), _PANELS), start=1):
        panels = [
            Panel(
                sampler,
                "step",
                {
                    name: [Point(step, value) for step, value in enumerate(curves[sampler], start=1)]
                    for name, curves in near.items()
                    if any(curves.get(sampler, ()))
                },
            )
            for sampler in samplers[start : start + _PANELS]
        ]
        alternative = "Divergence after the last step. " + _listed(
            f"{panel.title}, {peer}: {significant(points[-1].y)}"
            for panel in panels
            for peer, points in panel.curves.items()
        )
        name = f"divergence-{number}"
        label = f"root mean square difference of the latents from those of {report.scenario.reference}"
        title = "Divergence by step"
        drawing = plots.curves(name, title, alternative, label, panels, list(report.peers), log=True)
        drawn.append(Plot(name, drawing, alternative))
    return drawn


def speed_and_sameness(report: Report) -> Plot | None:
    """Pictures per second against the worst picture."""
    near, reference = compared(report), report.scenario.reference
    marks = []
    for name, (_, speed) in measured(report).items():
        if name not in near and name != reference:
            continue
        psnr = near[name].least_psnr if name in near else float("inf")
        rate = speed.pictures_per_second
        tip = f"{name}: {significant(rate.median)} pictures / s, " + (
            "the reference" if name == reference else f"worst PSNR {decibels(psnr)}"
        )
        marks.append(
            Mark(name, rate.median, None if psnr == float("inf") else psnr, rate.least, rate.p90, tip)
        )
    if len(marks) < 2:
        return None
    alternative = "Speed against sameness. " + _listed(mark.tip for mark in marks)
    drawing = plots.scatter(
        "speed-and-sameness", "Speed against sameness", alternative, "pictures / s",
        "PSNR of the worst picture, dB", "equal", marks, list(report.peers),
    )  # fmt: skip
    return Plot("speed-and-sameness", drawing, alternative)


def _listed(said: Iterable[str]) -> str:
    lines: Sequence[str] = list(said)
    return "; ".join(lines) + "." if lines else "Nothing to show."
