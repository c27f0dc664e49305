"""What the pages say of a report and no single field holds."""

from __future__ import annotations

from statistics import median

from sdrt_bench.readable import significant, times, unit_of
from sdrt_bench.report import Figure, PeerReport, Quality, Report, Speed


def measured(report: Report) -> dict[str, tuple[PeerReport, Speed]]:
    """The peers that have figures, in the scenario's order."""
    return {name: (peer, peer.speed) for name, peer in report.peers.items() if peer.speed is not None}


def compared(report: Report) -> dict[str, Quality]:
    """The peers whose pictures were compared with the reference's, which is not among them."""
    return {
        name: peer.quality
        for name, peer in report.peers.items()
        if peer.quality is not None and peer.quality.psnr and name != report.scenario.reference
    }


def evaluation(report: Report, name: str) -> Figure | None:
    """Of one evaluation, where the peer tells and all are alike."""
    speed = report.peers[name].speed
    return speed.evaluation if speed and report.scenario.peers[name].evaluations_alike else None


def median_psnr(quality: Quality) -> float:
    """In dB; infinite if half of the pictures or more are equal."""
    return median(float("inf") if value is None else value for value in quality.psnr.values())


def decibels(value: float) -> str:
    """A PSNR to 0.1 dB."""
    return "equal" if value == float("inf") else f"{value:.1f}"


def gates(report: Report, name: str) -> str:
    """Whether a peer passes what the scenario and its bundle demand, or why it was not asked to."""
    peer, settings = report.peers[name], report.scenario.peers[name]
    if peer.absent is not None:
        return f"absent: {peer.absent}"
    if peer.failed is not None:
        return "; ".join((f"failed: {peer.failed}", *(f"missed: {gate}" for gate in peer.missed)))
    if peer.missed:
        return f"missed: {'; '.join(peer.missed)}"
    if name == report.scenario.reference:
        return "the reference"
    if {settings.least_psnr, settings.least_ssim, settings.least_right} != {None}:
        return "passed"
    held = any(graph.tolerance is not None for graph in peer.graphs.values())
    return "graphs passed, none set for pictures" if held else "none set"


def result(report: Report) -> str:
    """The report in a sentence: the quickest of sdrt's peers that misses nothing, and what is missed."""
    own = {
        name: found
        for name, found in measured(report).items()
        if report.scenario.peers[name].runner == "sdrt" and not found[0].missed
    }
    held = {name: found for name, found in own.items() if gates(report, name) == "passed"}
    own = held or own  # what nothing was asked of is quick at no price
    missed = report.missed
    ends = (
        f"{len(missed)} {'gate is' if len(missed) == 1 else 'gates are'} missed"
        if missed
        else "No gate is missed"
    )
    if not own:
        return f"No bundle of sdrt was measured that misses no gate. {ends}."
    name = min(own, key=lambda one: own[one][1].picture.median)
    peer, speed = own[name]
    unit = unit_of([speed.picture.median])
    said = f"{name} makes a picture in {unit.show(speed.picture.median)} {unit.name}"
    if "picture" in peer.ratios and name != report.scenario.reference:
        said += f", {times(peer.ratios['picture'])} the speed of {report.scenario.reference}"
    if name in compared(report):
        least = compared(report)[name].least_psnr
        said += (
            ", and its pictures equal the reference's bit for bit"
            if least == float("inf")
            else f", and the worst of its pictures is {decibels(least)} dB PSNR from the reference's"
        )
    return f"{said}. {ends}."


def teraflops(report: Report, name: str) -> str:
    """What a peer's U-Net reaches, and of what."""
    peer, precision = report.peers[name], report.scenario.peers[name].precision
    if peer.teraflops is None:
        return "not counted"
    reached = significant(peer.teraflops)
    if peer.of_peak is None or peer.of_peak == 0:
        return f"{reached} TFLOP/s, no {precision} peak measured"
    return f"{reached} of {significant(peer.teraflops / peer.of_peak)} TFLOP/s"
