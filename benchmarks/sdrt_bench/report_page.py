"""A report as a page: what stands where, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator

from sdrt_bench import report_plots, report_tables
from sdrt_bench.busy import busy
from sdrt_bench.document import Block, Code, Gallery, Heading, Page, Paragraph, Plot
from sdrt_bench.report import Report
from sdrt_bench.report_figures import compared, result
from sdrt_bench.report_pictures import GAIN
from sdrt_bench.scenario import Scenario
from sdrt_bench.scenario_toml import to_toml


def page(report: Report, galleries: tuple[Gallery, ...]) -> Page:
    """Everything, from the result down to what it was measured on."""
    blocks = (*_speed(report), *_machine_use(report), *_sameness(report, galleries), *_origin(report))
    return Page(report.scenario.title, result(report), blocks)


def _speed(report: Report) -> Iterator[Block]:
    scenario = report.scenario
    yield Heading("Peers")
    if (why := busy(report)) is not None:
        yield Paragraph(f"Caution: {why}.")
    yield Paragraph(
        f"{scenario.width}x{scenario.height} pixels, {scenario.steps} steps of {scenario.sampler}, "
        f"guidance {scenario.guidance_scale:g}, batch {scenario.batch}. {_turns(scenario)} Figures are "
        "medians; in brackets from the least to the 90th percentile, for ratios the least and the most of "
        f"the rounds. Ratios above 1 are quicker than {scenario.reference}."
    )
    yield report_tables.overview(report)
    notes = report_tables.notes(report)
    if notes.rows:
        yield Paragraph("What peers did otherwise than asked, and what they are:")
        yield notes
    yield from _drawn("Where the time of a picture goes", *report_plots.latency(report))
    yield report_tables.stages(report)
    yield report_tables.rates(report)
    yield from _drawn("Cold start", report_plots.cold_start(report))
    yield report_tables.cold_start(report)
    yield from _whole_process(report)
    yield from _drawn("Scaling", report_plots.scaling(report))


def _turns(scenario: Scenario) -> str:
    jobs = f"ran {scenario.warm} jobs"
    if scenario.together:
        return (
            "All peers were started at the same time, which makes their cold starts longer than they are "
            f"alone, and stayed open. In each of {scenario.rounds} rounds each of them in turn {jobs}."
        )
    return (
        f"In each of {scenario.rounds} rounds every peer in turn was started anew and {jobs} after its first."
    )


def _whole_process(report: Report) -> Iterator[Block]:
    whole = report.whole_process
    if whole is None:
        return
    yield Heading("Whole processes")
    if whole.failed is not None or whole.sdrt is None:
        yield Paragraph(f"Not measured: {whole.failed}")
    else:
        yield Paragraph(
            "From starting a process until it has ended with the picture on disk, in turn, after one run of "
            "each that is not counted."
        )
        yield report_tables.whole_process(whole)
    yield Code(whole.sdrt_command, "sh")
    yield Code(whole.diffusers_script, "python")


def _machine_use(report: Report) -> Iterator[Block]:
    plot = report_plots.of_peak(report)
    if plot is None:
        return
    yield Heading("Share of the machine's matrix peak")
    yield Paragraph(
        "Operations counted in the U-Net's graph over the time of an evaluation, against the fastest matrix "
        "product measured on this machine in the same precision."
    )
    yield plot
    rooflines = report_plots.rooflines(report)
    if rooflines:
        yield Heading("Rooflines")
        yield Paragraph(
            "First the U-Net, then the VAE. Rising on the left is what memory allows, measured by copying; "
            "flat is the fastest matrix product. Bytes are those that matrix products, convolutions and "
            "attention take and give, each tensor once."
        )
    yield from rooflines


def _sameness(report: Report, galleries: tuple[Gallery, ...]) -> Iterator[Block]:
    near, reference = compared(report), report.scenario.reference
    if near:
        yield Heading("Sameness")
        yield Paragraph(f"Pictures of the same prompts, seeds and samplers against those of {reference}.")
        yield report_tables.sameness(report)
        yield from _drawn("Speed against sameness", report_plots.speed_and_sameness(report))
        yield from _drawn("Divergence by step", *report_plots.divergence(report))
    if galleries:
        yield Heading("Pictures")
        yield Paragraph(
            f"The reference, each peer, and its difference from the reference {GAIN} times enlarged: "
            "the first picture of each prompt, and each peer's worst."
        )
        yield from galleries
    if any(peer.graphs for peer in report.peers.values()):
        yield Heading("Graphs against PyTorch modules")
        yield Paragraph("As measured at export, the worst of several inputs.")
        yield report_tables.graphs(report)


def _origin(report: Report) -> Iterator[Block]:
    yield Heading("Measured on")
    yield report_tables.machine(report)
    yield Heading("Command")
    yield Code(report.command, "sh")
    yield Paragraph(f"Run on {report.date}, with this scenario:")
    yield Code(to_toml(report.scenario), "toml")


def _drawn(title: str, *plots: Plot | None) -> Iterator[Block]:
    drawn = [plot for plot in plots if plot is not None]
    if drawn:
        yield Heading(title)
    yield from drawn
