"""The tables of a report's pages."""

from __future__ import annotations

from collections.abc import Iterable

from sdrt_bench.document import Table
from sdrt_bench.readable import NOTHING, Unit, percent, significant, times, unit_of
from sdrt_bench.report import Figure, Report, Speed, WholeProcess
from sdrt_bench.report_figures import compared, decibels, evaluation, gates, measured, median_psnr


def overview(report: Report) -> Table:
    """Every peer in a line, those without figures too."""
    found, near = measured(report), compared(report)
    picture = _unit(speed.picture for _, speed in found.values())
    unit = _unit(evaluation(report, name) for name in found)
    on_device = any(speed.device_mb is not None for _, speed in found.values())
    rows = []
    for name, peer in report.peers.items():
        speed, quality = peer.speed, near.get(name)
        device_mb = speed.device_mb if speed else None
        rows.append(
            (
                name,
                report.scenario.peers[name].precision,
                picture.show_figure(speed.picture) if speed else NOTHING,
                _ratio(report, name, "picture"),
                _show(unit, evaluation(report, name)),
                _ratio(report, name, "evaluation"),
                significant(speed.start.median + speed.load.median + speed.first.median)
                if speed
                else NOTHING,
                significant(speed.peak_mb) if speed else NOTHING,
                *((NOTHING if device_mb is None else significant(device_mb),) if on_device else ()),
                decibels(quality.least_psnr) if quality else NOTHING,
                gates(report, name),
            )
        )
    head = (
        "Peer", "Precision", f"Picture, {picture.name}", "Pictures, x reference",
        f"Evaluation, {unit.name}", "Evaluations, x reference", "Cold start, s",
        "Peak memory, MB", *(("GPU memory, MB",) if on_device else ()), "Worst PSNR, dB", "Gates",
    )  # fmt: skip
    return Table(head, tuple(rows), words=(2, 1))


def notes(report: Report) -> Table:
    """What a peer is, what it did otherwise than asked, and how long it took to convert the checkpoint."""
    rows = []
    for name, peer in report.peers.items():
        versions = ", ".join(f"{package} {version}" for package, version in peer.versions.items())
        said = [*peer.notes, *([f"not compared: {peer.uncompared}"] if peer.uncompared else [])]
        if peer.convert_s is not None:
            said.append(f"converted the checkpoint once, in {significant(peer.convert_s)} s")
        if versions or said:
            rows.append((name, versions or NOTHING, "; ".join(dict.fromkeys(said)) or NOTHING))
    return Table(("Peer", "Versions", "Notes"), tuple(rows), words=(3, 0))


def whole_process(whole: WholeProcess) -> Table:
    """Times of both processes, and how many times as quick sdrt's is."""
    assert whole.sdrt is not None and whole.diffusers is not None and whole.ratio is not None
    unit = unit_of([whole.sdrt.median, whole.diffusers.median])
    head = (
        f"sdrt generate, {unit.name}", f"diffusers script, {unit.name}", "sdrt is quicker by", "Runs",
        "PSNR, dB",
    )  # fmt: skip
    near = "equal" if whole.psnr is None else decibels(whole.psnr)
    row = (unit.show_figure(whole.sdrt), unit.show_figure(whole.diffusers), times(whole.ratio))
    return Table(head, ((*row, str(whole.sdrt.count), near),), words=(0, 0))


def rates(report: Report) -> Table:
    """What comes out, and how regularly."""
    found = measured(report)
    unit = _unit(speed.picture for _, speed in found.values())
    head = (
        "Peer", "Iterations / s", "Pictures / s", f"Picture p50, {unit.name}", f"p90, {unit.name}",
        f"p99, {unit.name}", "Pictures timed", "TFLOP/s in the U-Net", "Of the matrix peak",
    )  # fmt: skip
    return Table(
        head,
        tuple(
            (
                name,
                significant(speed.iterations_per_second.median) if speed.iterations_per_second else NOTHING,
                significant(speed.pictures_per_second.median),
                *(unit.show(value) for value in (speed.picture.median, speed.picture.p90, speed.picture.p99)),
                str(speed.picture.count),
                significant(peer.teraflops) if peer.teraflops is not None else NOTHING,
                percent(peer.of_peak) if peer.of_peak is not None else NOTHING,
            )
            for name, (peer, speed) in found.items()
        ),
    )


def stages(report: Report) -> Table:
    """Where the time of a job goes."""

    def evaluations(speed: Speed) -> str:
        return NOTHING if speed.evaluations is None else str(speed.evaluations)

    found = {name: speed for name, (_, speed) in measured(report).items()}
    unit = _unit(evaluation(report, name) for name in found)
    head = ("Peer", *(f"{what}, {unit.name}" for what in ("Text encoder", "One evaluation")), "Evaluations")
    head = (*head, *(f"{what}, {unit.name}" for what in ("VAE", "Everything else")))
    return Table(
        head,
        tuple(
            (
                name,
                _show(unit, speed.text),
                _show(unit, evaluation(report, name)),
                evaluations(speed),
                _show(unit, speed.vae),
                _show(unit, speed.rest),
            )
            for name, speed in found.items()
        ),
    )


def cold_start(report: Report) -> Table:
    """From nothing to the first picture."""
    head = ("Peer", "Import, s", "Load, s", "First picture, s", "Together, s")
    rows = []
    for name, (_, speed) in measured(report).items():
        parts = (speed.start.median, speed.load.median, speed.first.median)
        rows.append((name, *(significant(part) for part in (*parts, sum(parts)))))
    return Table(head, tuple(rows))


def sameness(report: Report) -> Table:
    """Pictures against the reference's, and the demo model's scores."""
    scores = list(
        dict.fromkeys(
            score for peer in report.peers.values() if peer.quality for score in peer.quality.scores
        )
    )
    head = (
        "Peer", "PSNR worst, dB", "PSNR median, dB", "SSIM worst", "SSIM median", "Pictures",
        *(f"{score.replace('_', ', ')} right" for score in scores),
    )  # fmt: skip
    near = compared(report)
    rows = []
    for name, peer in report.peers.items():
        if peer.quality is None or (name not in near and name != report.scenario.reference):
            continue
        quality = peer.quality
        ssims = Figure.of(list(quality.ssim.values())) if name in near else None
        figures: tuple[str, ...] = (NOTHING,) * 4
        if ssims:
            psnrs = (decibels(quality.least_psnr), decibels(median_psnr(quality)))
            figures = (*psnrs, f"{ssims.least:.5f}", f"{ssims.median:.5f}")
        right = (percent(quality.scores[score]) if score in quality.scores else NOTHING for score in scores)
        rows.append((name, *figures, str(len(quality.psnr)), *right))
    return Table(head, tuple(rows))


def graphs(report: Report) -> Table:
    """Each exported graph against its PyTorch module."""
    head = ("Peer", "Graph", "Relative L2", "Tolerance", "Largest difference", "1 - cosine")
    return Table(
        head,
        tuple(
            (
                name,
                graph,
                significant(one.relative_l2),
                NOTHING if one.tolerance is None else significant(one.tolerance),
                significant(one.max_abs),
                significant(1 - one.cosine),
            )
            for name, peer in report.peers.items()
            for graph, one in peer.graphs.items()
        ),
        words=(2, 0),
    )


def machine(report: Report) -> Table:
    """Hardware, versions, how busy the machine was, and its matrix products."""
    rows: list[tuple[str, str]] = []
    for key, value in report.machine.items():
        if isinstance(value, dict):
            rows += [(str(name), NOTHING if one is None else str(one)) for name, one in value.items()]
        else:
            rows.append((key.replace("_gb", ", GB"), NOTHING if value is None else str(value)))
    rows.append(
        ("load average before each round", ", ".join(f"{value:.2g}" for value in report.load_average))
    )
    rows += [
        (f"matrix product, {name}", f"{significant(peak)} TFLOP/s")
        for name, peak in report.peak_teraflops.items()
    ]
    rows.append(("memory, copying", f"{significant(report.bandwidth / 1e9)} GB/s"))
    rows += [
        (
            f"work of {graph}",
            f"{significant(work.operations / 1e9)} GFLOP, {significant(work.traffic / 1e9)} GB in FP32",
        )
        for graph, work in report.work.items()
    ]
    return Table(("What", "Is"), tuple(rows), words=(2, 0))


def _unit(figures: Iterable[Figure | None]) -> Unit:
    return unit_of(figure.median for figure in figures if figure is not None)


def _show(unit: Unit, figure: Figure | None) -> str:
    return NOTHING if figure is None else unit.show_figure(figure)


def _ratio(report: Report, name: str, what: str) -> str:
    ratio = report.peers[name].ratios.get(what)
    if name == report.scenario.reference:
        return "1"
    return NOTHING if ratio is None else times(ratio)
