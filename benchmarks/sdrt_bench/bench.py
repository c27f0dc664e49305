"""A scenario from beginning to end: speed, scaling, pictures, gates."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sdrt.errors import SdrtError
from sdrt_bench import machine, matrix_peak, memory_bandwidth, quality, whole_process
from sdrt_bench.models import prepare
from sdrt_bench.peers import Kept, PeerStart, Work
from sdrt_bench.peers.classic_names import with_classic_names
from sdrt_bench.peers.process import PeerProcess, Session
from sdrt_bench.ratios import ratios
from sdrt_bench.report import PeerReport, Report
from sdrt_bench.scenario import Scenario
from sdrt_bench.speed import Open, Progress, Rounds, job_of, run_rounds, run_scaling

Pictures = dict[str, dict[tuple[str, str], Kept]]


def bench(
    scenario: Scenario,
    command: str,
    *,
    models: Path | None = None,
    pythons: Mapping[str, str],
    progress: Progress,
) -> tuple[Report, Pictures]:
    """Measure a scenario; also returns the pictures that were compared, by peer.

    command: what the report says was run. models: a folder for what is exported, to be used again; None
    throws it away. pythons: interpreters of peers that live in another environment.
    Raises SdrtError if the reference cannot be run: nothing could be compared.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = models or folder / "models"
        starts = {
            name: _for_peer(scenario, start, made)
            for name, start in prepare(scenario, made, progress).items()
        }

        def open_peer(name: str) -> Session:
            python = pythons.get(name)
            return PeerProcess(starts[name], python)

        progress("matrix products")
        peaks = matrix_peak.measure(scenario.device)
        rounds = run_rounds(scenario, open_peer, progress)
        reference = scenario.reference
        if reference not in rounds.measured:
            why = rounds.absent.get(reference) or rounds.failed.get(reference)
            raise SdrtError(f"the reference {reference} cannot be run: {why}; name another in the scenario")
        scaling = tuple(run_scaling(scenario, rounds, open_peer, progress))
        work = _work(scenario, rounds, open_peer)
        pictures, scores, uncompared = quality.pictures_of_all(scenario, rounds, open_peer, folder, progress)
        if reference not in pictures:
            raise SdrtError(f"the reference {reference} makes no pictures: {rounds.failed[reference]}")
        whole = whole_process.measure(scenario, starts, folder, progress) if scenario.whole_process else None
        graphs = {
            peer: quality.graph_fidelity(Path(starts[peer].model))
            for peer, settings in scenario.peers.items()
            if settings.runner == "sdrt"
        }
    peers = {}
    for peer, settings in scenario.peers.items():
        measured = rounds.measured.get(peer)
        speed = measured.speed(scenario.batch) if measured else None
        found = pictures.get(peer)
        compared = quality.compare(found, pictures[reference], scores[peer]) if found else None
        why_not = uncompared.get(peer, {})
        teraflops = (
            work["unet"].operations * scenario.batch / speed.evaluation.median / 1e12
            if speed and speed.evaluation and settings.evaluations_alike and "unet" in work
            else None
        )
        peak = matrix_peak.peak(peaks, settings.precision)
        peers[peer] = PeerReport(
            absent=rounds.absent.get(peer),
            failed=rounds.failed.get(peer),
            versions=rounds.versions.get(peer, {}),
            notes=tuple(dict.fromkeys((*(measured.notes if measured else ()), *why_not.values()))),
            uncompared="; ".join(dict.fromkeys(why_not.values())) if why_not and not found else None,
            convert_s=rounds.converted.get(peer),
            speed=speed,
            quality=compared,
            graphs=graphs.get(peer, {}),
            teraflops=teraflops,
            of_peak=teraflops / peak if teraflops is not None and peak is not None else None,
            ratios=ratios(scenario, peer, rounds.measured) if measured else {},
            missed=()
            if peer in rounds.absent
            else quality.missed_gates(settings, compared, graphs.get(peer, {})),
        )
    report = Report(
        command=command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.describe(),
        load_average=tuple(rounds.load_average),
        peak_teraflops=peaks,
        scenario=scenario,
        bandwidth=memory_bandwidth.measure(scenario.device),
        work=work,
        peers=peers,
        scaling=scaling,
        whole_process=whole,
    )
    return report, pictures


def _for_peer(scenario: Scenario, start: PeerStart, made: Path) -> PeerStart:
    """Told where it may keep what it converts, which peers of one runner share."""
    if start.runner == "sdrt":
        return start
    name = Path(scenario.source).stem.replace(":", "-")
    checkpoint = with_classic_names(Path(start.model), made / f"{name}-classic")
    return msgspec.structs.replace(
        start, model=str(checkpoint.resolve()), converted=str((made / f"{name}-{start.runner}").resolve())
    )


def _work(scenario: Scenario, rounds: Rounds, open_peer: Open) -> dict[str, Work]:
    """Counted in the graphs of the first bundle; the work of the other peers is the same."""
    for name, settings in scenario.peers.items():
        if settings.runner == "sdrt" and name in rounds.measured:
            with open_peer(name) as session:
                session.load()
                return session.work(job_of(scenario))
    return {}
