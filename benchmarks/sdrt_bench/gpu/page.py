"""A run on a GPU as a page: what is known, which step told it, on what card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sdrt_bench import plots, report_plots, report_tables, svg
from sdrt_bench.document import Block, Heading, Page, Paragraph, Plot, Table
from sdrt_bench.gpu import report as gpu_report
from sdrt_bench.gpu.report import Device, GpuReport, NetworkTime, Peaks, Sameness
from sdrt_bench.plots import Panel, Point
from sdrt_bench.readable import MILLISECONDS, NOTHING, significant
from sdrt_bench.report import Report
from sdrt_bench.report_figures import decibels, measured
from sdrt_bench.report_markdown import PLOTS, to_markdown


def write(report: GpuReport, folder: Path) -> None:
    """Write report.json, report.md and plots/*.svg; each of them is whole at any time."""
    gpu_report.write(report, folder / "report.json")
    whole = page(report)
    (folder / PLOTS).mkdir(exist_ok=True)
    for block in whole.blocks:
        if isinstance(block, Plot):
            drawing = svg.as_file(block.drawing).encode()
            gpu_report.replace(folder / PLOTS / f"{block.name}.svg", drawing)
    gpu_report.replace(folder / "report.md", to_markdown(whole).encode())


def troubles(report: GpuReport) -> list[str]:
    """Everything that did not go as it should: steps that failed, and what is not the same as its reference.

    A step that did not fit into the time is none.
    """
    found = [
        f"{one.title}: {one.status}, {one.why}"
        for one in report.steps
        if one.status in ("failed", "over its limit")
    ]
    found += [
        f"{one.what} is not near enough to {one.reference}: {_nearness(one)}"
        for one in report.records
        if isinstance(one, Sameness) and not one.passed
    ]
    for name, bench in report.benches.items():
        found += [f"{name}: {missed}" for missed in bench.missed]
        found += [f"{name}: {peer} failed: {one.failed}" for peer, one in bench.peers.items() if one.failed]
    if report.tests is not None and report.tests.failed:
        found.append(f"{len(report.tests.failed)} tests failed, {report.tests.failed[0]} among them")
    return found


def page(report: GpuReport) -> Page:
    """Everything, what is worth most first."""
    title = "sdrt on a GPU"
    if report.rehearsal:
        title = "A rehearsal of the run on a GPU: small models on a CPU, no measurement of anything"
    blocks = (
        *_device(report),
        *(block for name, bench in report.benches.items() for block in _bench(name, bench)),
        *_networks(report),
        *_sameness(report),
        *_tests(report),
        *_steps(report),
    )
    return Page(title, _summary(report), tuple(blocks))


def _summary(report: GpuReport) -> str:
    said = []
    for name, bench in report.benches.items():
        own = {
            peer: speed.iterations_per_second.median
            for peer, (_, speed) in measured(bench).items()
            if bench.scenario.peers[peer].runner == "sdrt" and speed.iterations_per_second
        }
        if own:
            best = max(own, key=lambda peer: own[peer])
            said.append(f"{name}: {significant(own[best])} iterations a second ({best})")
    found = troubles(report)
    ends = "; ".join(found) if found else "Nothing failed and everything compared is the same"
    waits = [one.name for one in report.steps if one.status in ("waiting", "running")]
    open_ = f" Not finished when this was written: {', '.join(waits)}." if waits else ""
    return f"{'. '.join([*said, ends])}.{open_}"


def _device(report: GpuReport) -> Iterator[Block]:
    yield Heading("Machine")
    rows = [
        (key.replace("_gb", ", GB"), str(value))
        for key, value in report.machine.items()
        if value is not None and not isinstance(value, dict)
    ]
    packages = report.machine.get("packages", {})
    rows += [(name, str(version)) for name, version in packages.items() if version is not None]
    for one in report.records:
        if isinstance(one, Device):
            rows += list(one.facts.items())
        if isinstance(one, Peaks):
            rows += [
                (f"matrix product, {name}", f"{significant(peak)} TFLOP/s")
                for name, peak in one.limits.peak_teraflops.items()
            ]
            rows.append(("memory, copying", f"{significant(one.limits.bandwidth / 1e9)} GB/s"))
    yield Table(("What", "Is"), tuple(dict.fromkeys(rows)), words=(2, 0))


def _bench(name: str, report: Report) -> Iterator[Block]:
    scenario = report.scenario
    yield Heading(scenario.title)
    yield Paragraph(
        f"{scenario.source}, {scenario.width}x{scenario.height} pixels, {scenario.steps} steps of "
        f"{scenario.sampler}, guidance {scenario.guidance_scale:g}. All peers stay open; in each of "
        f"{scenario.rounds} rounds each of them in turn made {scenario.warm} pictures. They were started at "
        "the same time, so cold starts are longer than alone."
    )
    yield report_tables.overview(report)
    if measured(report):
        yield report_tables.rates(report)
        yield report_tables.stages(report)
        yield report_plots.latency(report, f"{name}-latency")[0]
    notes = report_tables.notes(report)
    if notes.rows:
        yield notes


def _networks(report: GpuReport) -> Iterator[Block]:
    found = [one for one in report.records if isinstance(one, NetworkTime)]
    if not found:
        return
    yield Heading("Networks by number of pictures")
    yield Paragraph(
        "One run of each network by the device's clock, queued one behind the other; in brackets from the "
        "least to the 90th percentile. A picture has two rows in the U-Net. This is what a server gains by "
        "making several pictures at once."
    )
    head = (
        "Network", "Queued as", "Size", "Pictures", "Rows", "One run, ms", "A picture, ms",
        "Pictures' runs a second",
    )  # fmt: skip
    yield Table(
        head,
        tuple(
            (
                one.graph,
                "a CUDA graph" if one.cuda_graph else "kernels",
                f"{one.width}x{one.height}",
                str(one.pictures),
                str(one.rows),
                MILLISECONDS.show_figure(one.seconds),
                MILLISECONDS.show(one.seconds.median / one.pictures),
                significant(one.pictures / one.seconds.median),
            )
            for one in found
        ),
        words=(3, 0),
    )
    plot = _row_curve(found)
    if plot is not None:
        yield plot


def _row_curve(found: Sequence[NetworkTime]) -> Plot | None:
    """Milliseconds of each picture's share in a run, against the number of pictures."""
    panels = []
    for graph in dict.fromkeys(one.graph for one in found):
        curves: dict[str, list[Point]] = {}
        for one in found:
            if one.graph == graph:
                queued = "a CUDA graph" if one.cuda_graph else "kernels"
                share = 1e3 / one.pictures
                curves.setdefault(queued, []).append(
                    Point(
                        one.pictures,
                        share * one.seconds.median,
                        share * one.seconds.least,
                        share * one.seconds.p90,
                    )
                )
        if any(len(points) > 1 for points in curves.values()):
            panels.append(Panel(graph, "pictures at once", curves))
    if not panels:
        return None
    alternative = "Milliseconds of a picture's share in one run, by pictures at once. " + ". ".join(
        f"{panel.title}, {name}: {significant(points[0].y)} at {points[0].x:g}, "
        f"{significant(points[-1].y)} at {points[-1].x:g}"
        for panel in panels
        for name, points in panel.curves.items()
    )
    drawing = plots.curves(
        "rows", "Row curve", alternative, "ms a picture", panels, ["a CUDA graph", "kernels"]
    )
    return Plot("rows", drawing, alternative)


def _nearness(one: Sameness) -> str:
    if one.relative_l2 is not None:
        return f"relative L2 {significant(one.relative_l2)}, at most {significant(one.gate)}"
    worst = min((float("inf") if psnr is None else psnr for psnr in one.psnr), default=float("nan"))
    found = "equal" if worst == float("inf") else f"{decibels(worst)} dB"
    return f"{found}, at least {one.gate:g} dB"


def _sameness(report: GpuReport) -> Iterator[Block]:
    found = [one for one in report.records if isinstance(one, Sameness)]
    if not found:
        return
    yield Heading("Sameness")
    rows = (
        (
            one.what,
            one.reference,
            str(len(one.psnr) or NOTHING),
            _nearness(one),
            "yes" if one.passed else "NO",
        )
        for one in found
    )
    yield Table(("What", "Against", "Pictures", "Worst", "Right"), tuple(rows), words=(5, 0))


def _tests(report: GpuReport) -> Iterator[Block]:
    tests = report.tests
    if tests is None:
        return
    yield Heading("Tests that need a GPU")
    yield Paragraph(
        f"{tests.command}: {tests.passed} passed, {len(tests.failed)} failed, {len(tests.skipped)} skipped."
    )
    listed = [(name, "failed") for name in tests.failed] + [(name, "skipped") for name in tests.skipped]
    if listed:
        yield Table(("Test", "Outcome"), tuple(listed), words=(2, 0))


def _steps(report: GpuReport) -> Iterator[Block]:
    yield Heading("Steps")
    yield Paragraph(f"{report.command}, {report.date}.")
    yield Table(
        ("Step", "What", "Outcome", "Seconds", "Limit, s", "GPU clock, MHz", "Why"),
        tuple(
            (
                one.name,
                one.title,
                one.status,
                f"{one.seconds:.0f}" if one.seconds else NOTHING,
                f"{one.limit:.0f}",
                NOTHING if one.sm_clock_mhz is None else "{:.0f} to {:.0f}".format(*one.sm_clock_mhz),
                one.why or NOTHING,
            )
            for one in report.steps
        ),
        words=(3, 1),
    )
