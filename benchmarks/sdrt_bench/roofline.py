"""Rooflines: what a graph could reach by the operations it does for each byte that it moves.

Williams, Waterman, Patterson 2009, "Roofline: an insightful visual performance model". Bytes are those that
matrix products, convolutions and attention take and give, each tensor once: what would be moved if nothing
stayed in a cache between two of them, and if they themselves read nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sdrt_bench.report import Report
from sdrt_bench.report_figures import evaluation, measured

_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
_SHOWN = {"unet": "U-Net", "vae_decoder": "VAE"}


@dataclass(frozen=True)
class Reached:
    """What a peer reaches in a graph. intensity: operations per byte; rate: operations per second."""

    peer: str
    graph: str
    intensity: float
    rate: float


def reached(report: Report) -> list[Reached]:
    """Of every peer that tells how long its U-Net and its VAE take."""
    return [
        Reached(
            peer,
            _SHOWN[graph],
            report.work[graph].operations / report.work[graph].traffic * 4 / _BYTES[_precision(report, peer)],
            report.work[graph].operations * report.scenario.batch / seconds,
        )
        for peer in measured(report)
        for graph, seconds in _times(report, peer)
        if graph in report.work and report.work[graph].traffic and seconds > 0
    ]


def roofs(report: Report) -> dict[str, float]:
    """The fastest matrix product of each precision that a peer computes in, operations per second."""
    found: dict[str, float] = {}
    for peer in measured(report):
        precision = _precision(report, peer)
        products = [rate for name, rate in report.peak_teraflops.items() if name.endswith(precision)]
        if products:
            found[precision] = 1e12 * max(products)
    return found


def _times(report: Report, peer: str) -> Iterator[tuple[str, float]]:
    """Medians in seconds, of a job."""
    one = evaluation(report, peer)
    if one is not None:
        yield "unet", one.median
    speed = report.peers[peer].speed
    if speed is not None and speed.vae is not None:
        yield "vae_decoder", speed.vae.median


def _precision(report: Report, peer: str) -> str:
    return report.scenario.peers[peer].precision
