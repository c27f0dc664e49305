"""A scenario from beginning to end: speed, scaling, pictures, gates."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sdrt.errors import SdrtError
from sdrt_bench import machine, matrix_peak, memory_bandwidth, quality, whole_process
from sdrt_bench.models import EXACTING, Preparation, prepare
from sdrt_bench.peers import Kept, PeerStart, Work
from sdrt_bench.peers.classic_names import with_classic_names
from sdrt_bench.peers.process import PeerProcess, Session
from sdrt_bench.ratios import ratios
from sdrt_bench.report import GraphFidelity, PeerReport, Report, ScalingPoint, WholeProcess
from sdrt_bench.scenario import Device, PeerSettings, Scenario
from sdrt_bench.speed import (
    Open,
    Progress,
    Rounds,
    job_of,
    run_rounds,
    run_scaling,
    standing_together,
)

Pictures = dict[str, dict[tuple[str, str], Kept]]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a device reaches at most: TFLOP/s by precision, and bytes per second of a copy."""

    peak_teraflops: dict[str, float]
    bandwidth: float

    @classmethod
    def measure(cls, device: Device) -> Limits:
        """On this machine."""
        return cls(peak_teraflops=matrix_peak.measure(device), bandwidth=memory_bandwidth.measure(device))


@dataclass(kw_only=True)
class _Findings:
    """What is known so far; a report can be made of it at any time."""

    scenario: Scenario
    command: str
    limits: Limits
    graphs: Mapping[str, Mapping[str, GraphFidelity]]
    rounds: Rounds = field(default_factory=Rounds)
    scaling: tuple[ScalingPoint, ...] = ()
    work: dict[str, Work] = field(default_factory=dict)
    pictures: Pictures = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    uncompared: dict[str, dict[str, str]] = field(default_factory=dict)
    whole: WholeProcess | None = None

    def report(self) -> Report:
        """All of it, with what was measured on."""
        return Report(
            command=self.command,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine.describe(),
            load_average=tuple(self.rounds.load_average),
            peak_teraflops=self.limits.peak_teraflops,
            scenario=self.scenario,
            bandwidth=self.limits.bandwidth,
            work=self.work,
            peers={name: self._peer(name, settings) for name, settings in self.scenario.peers.items()},
            scaling=self.scaling,
            whole_process=self.whole,
        )

    def _peer(self, name: str, settings: PeerSettings) -> PeerReport:
        scenario, rounds = self.scenario, self.rounds
        out = name in rounds.failed or name in rounds.absent
        measured = None if out else rounds.measured.get(name)
        speed = measured.speed(scenario.batch) if measured else None
        found, reference = self.pictures.get(name), self.pictures.get(scenario.reference)
        compared = quality.compare(found, reference, self.scores[name]) if found and reference else None
        why_not = self.uncompared.get(name, {})
        teraflops = (
            self.work["unet"].operations * scenario.batch / speed.evaluation.median / 1e12
            if speed and speed.evaluation and settings.evaluations_alike and "unet" in self.work
            else None
        )
        peak = matrix_peak.peak(self.limits.peak_teraflops, settings.precision)
        graphs = self.graphs.get(name, {})
        comparable = measured and scenario.reference in rounds.measured
        return PeerReport(
            absent=rounds.absent.get(name),
            failed=rounds.failed.get(name),
            versions=rounds.versions.get(name, {}),
            notes=tuple(dict.fromkeys((*(measured.notes if measured else ()), *why_not.values()))),
            uncompared="; ".join(dict.fromkeys(why_not.values())) if why_not and not found else None,
            convert_s=rounds.converted.get(name),
            speed=speed,
            quality=compared,
            graphs=dict(graphs),
            teraflops=teraflops,
            of_peak=teraflops / peak if teraflops is not None and peak is not None else None,
            ratios=ratios(scenario, name, rounds.measured) if comparable else {},
            missed=() if name in rounds.absent else quality.missed_gates(settings, compared, graphs),
        )


def bench(
    scenario: Scenario,
    command: str,
    *,
    models: Path | None = None,
    pythons: Mapping[str, str],
    progress: Progress,
    how: Preparation = EXACTING,
    limits: Limits | None = None,
    so_far: Callable[[Report], None] = lambda report: None,
) -> tuple[Report, Pictures]:
    """Measure a scenario; also returns the pictures that were compared, by peer.

    command: what the report says was run. models: a folder for what is exported, to be used again; None
    throws it away. pythons: interpreters of peers that live in another environment. how: bundles are made.
    limits: of the device, if they are known already. so_far: is given a report after each round and each
    later part, for whoever may be stopped at any time.
    Raises SdrtError if the reference cannot be run: nothing could be compared.
    """
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as standing:
        folder = Path(temporary)
        made = models or folder / "models"
        starts = {
            name: _for_peer(scenario, start, made)
            for name, start in prepare(scenario, made, progress, how).items()
        }

        def open_peer(name: str) -> Session:
            python = pythons.get(name)
            return PeerProcess(starts[name], python)

        if limits is None:
            progress("matrix products and memory")
            limits = Limits.measure(scenario.device)
        graphs = {
            peer: quality.graph_fidelity(Path(starts[peer].model))
            for peer, settings in scenario.peers.items()
            if settings.runner == "sdrt"
        }
        found = _Findings(scenario=scenario, command=command, limits=limits, graphs=graphs)

        def after_round(rounds: Rounds) -> None:
            found.rounds = rounds
            so_far(found.report())

        lent: Open = open_peer
        if scenario.together:
            found.rounds, lent = standing.enter_context(
                standing_together(scenario, open_peer, progress, after_round)
            )
        else:
            found.rounds = run_rounds(scenario, open_peer, progress, after_round)
        rounds, reference = found.rounds, scenario.reference
        if reference not in rounds.measured:
            why = rounds.absent.get(reference) or rounds.failed.get(reference)
            raise SdrtError(f"the reference {reference} cannot be run: {why}; name another in the scenario")
        found.scaling = tuple(run_scaling(scenario, rounds, lent, progress))
        found.pictures, found.scores, found.uncompared = quality.pictures_of_all(
            scenario, rounds, lent, folder, progress
        )
        if reference not in found.pictures:
            raise SdrtError(f"the reference {reference} makes no pictures: {rounds.failed[reference]}")
        so_far(found.report())
        progress("counting the work of the graphs")
        found.work = _work(scenario, rounds, lent)
        if scenario.whole_process:
            found.whole = whole_process.measure(scenario, starts, folder, progress)
    return found.report(), found.pictures


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
