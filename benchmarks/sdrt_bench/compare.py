"""What changed from one report to another, and whether that can be told at all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from sdrt_bench.busy import busy
from sdrt_bench.report import Figure, PeerReport, Report
from sdrt_bench.report_figures import compared

Verdict = Literal[
    "faster", "slower", "spreads overlap", "no spread", "less", "more", "nearer", "farther", "same"
]

_TIMES = ("picture", "evaluation", "start", "load", "first")
_FIGURE = re.compile(r"\d[\d.e+%-]*")
_WHO = ("peers.", "scaling", "whole_process", "title")  # of a scenario, what changes nothing for the others
_SAME_MEMORY = 0.02  # of a peak: allocators alone differ by as much from run to run


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of a peer in both reports. None: pictures equal the reference's, whose PSNR is infinite."""

    peer: str
    what: str
    unit: str
    before: float | None
    after: float | None
    verdict: Verdict


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that differs, before and after.

    cautions: why not to trust a comparison of the two. unshared: peers with figures in one
    report alone, and why. gates: those newly, still and no longer missed. versions: of what peers ran.
    """

    cautions: tuple[str, ...]
    changes: tuple[Change, ...]
    unshared: dict[str, str]
    gates: dict[str, tuple[str, ...]]
    machine: dict[str, tuple[Any, Any]]
    scenario: dict[str, tuple[Any, Any]]
    versions: dict[str, tuple[Any, Any]]


def compare(before: Report, after: Report) -> Comparison:
    """Compare two reports, whatever they were measured on."""
    machine = _differences(before.machine, after.machine)
    scenario = _differences(msgspec.to_builtins(before.scenario), msgspec.to_builtins(after.scenario))
    shared = [name for name in before.peers if name in after.peers]
    return Comparison(
        cautions=tuple(_cautions(before, after, machine, scenario)),
        changes=(
            *(
                change
                for name in shared
                for change in (
                    *_speed_changes(name, before.peers[name], after.peers[name]),
                    *_quality_changes(name, before, after),
                )
            ),
            *_whole_process_changes(before, after),
        ),
        unshared=dict(_unshared(before, after)),
        gates=_gates(before, after),
        machine=machine,
        scenario=scenario,
        versions=_differences(_versions(before), _versions(after)),
    )


def _versions(report: Report) -> dict[str, dict[str, str]]:
    return {name: peer.versions for name, peer in report.peers.items()}


def _speed_changes(name: str, before: PeerReport, after: PeerReport) -> Iterator[Change]:
    if before.speed is None or after.speed is None:
        return
    for what in _TIMES:
        then, now = getattr(before.speed, what), getattr(after.speed, what)
        if then is not None and now is not None:
            verdict = _quicker(then, now)
            yield Change(
                peer=name, what=what, unit="s", before=then.median, after=now.median, verdict=verdict
            )
    yield _memory(name, before.speed.peak_mb, after.speed.peak_mb)


def _whole_process_changes(before: Report, after: Report) -> Iterator[Change]:
    then, now = before.whole_process, after.whole_process
    if then is None or now is None:
        return
    for name, was, has in (("sdrt", then.sdrt, now.sdrt), ("diffusers", then.diffusers, now.diffusers)):
        if was is not None and has is not None:
            yield Change(
                peer="whole process", what=name, unit="s", before=was.median, after=has.median,
                verdict=_quicker(was, has),
            )  # fmt: skip


def _quality_changes(name: str, before: Report, after: Report) -> Iterator[Change]:
    then, now = compared(before).get(name), compared(after).get(name)
    if then is not None and now is not None:
        yield _nearness(name, "worst PSNR", "dB", then.least_psnr, now.least_psnr)
        yield _nearness(name, "worst SSIM", "", then.least_ssim, now.least_ssim)


def _quicker(before: Figure, after: Figure) -> Verdict:
    """A change is one if it is larger than the spreads, from the least to the 90th percentile, of both."""
    if min(before.count, after.count) < 2:
        return "no spread"
    if after.p90 < before.least:
        return "faster"
    return "slower" if before.p90 < after.least else "spreads overlap"


def _memory(name: str, before: float, after: float) -> Change:
    verdict: Verdict = "less" if after < before else "more"
    if abs(after - before) <= _SAME_MEMORY * before:
        verdict = "same"
    return Change(peer=name, what="peak memory", unit="MB", before=before, after=after, verdict=verdict)


def _nearness(name: str, what: str, unit: str, before: float, after: float) -> Change:
    verdict: Verdict = "same" if after == before else "nearer" if after > before else "farther"
    then, now = (None if value == float("inf") else value for value in (before, after))
    return Change(peer=name, what=what, unit=unit, before=then, after=now, verdict=verdict)


def _gates(before: Report, after: Report) -> dict[str, tuple[str, ...]]:
    """Gates are the same if their messages are, but for the figures, which always differ.

    A gate of a peer that was not measured again is not told of: nobody knows.
    """
    then, now = _missed(before), _missed(after)
    return {
        "newly missed": tuple(gate for key, gate in now.items() if key not in then),
        "still missed": tuple(gate for key, gate in now.items() if key in then),
        "no longer missed": tuple(
            gate
            for key, gate in then.items()
            if key not in now and key[0] in after.peers and _why_none(after.peers[key[0]]) is None
        ),
    }


def _missed(report: Report) -> dict[tuple[str, str], str]:
    """By peer and the gate's message without its figures."""
    return {
        (name, _FIGURE.sub("", gate)): f"{name}: {gate}"
        for name, peer in report.peers.items()
        for gate in peer.missed
    }


def _cautions(
    before: Report, after: Report, machine: Mapping[str, Any], scenario: Mapping[str, Any]
) -> Iterator[str]:
    hardware = [name for name in machine if name != "python" and not name.startswith("packages.")]
    if hardware:
        yield f"the machines differ ({', '.join(hardware)}): their times do not compare, ratios may"
    asked = [name for name in scenario if not name.startswith(_WHO)]
    if asked:
        yield f"the scenarios differ ({', '.join(asked)}): these are not two runs of the same thing"
    then, now = before.scenario.peers, after.scenario.peers
    settings = [name for name in then if name in now and then[name] != now[name]]
    if settings:
        yield f"peers are set up otherwise ({', '.join(settings)}): see the scenario's differences"
    for when, report in (("before", before), ("after", after)):
        if (why := busy(report)) is not None:
            yield f"{when}: {why}"


def _unshared(before: Report, after: Report) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys((*before.peers, *after.peers)):
        reasons = [_why_none(report.peers.get(name)) for report in (before, after)]
        if reasons[0] != reasons[1]:
            then, now = (reason or "measured" for reason in reasons)
            yield name, f"{then}, then {now}"


def _why_none(peer: PeerReport | None) -> str | None:
    """Why a peer has no figures; None if it has some."""
    if peer is None:
        return "not asked for"
    if peer.absent is not None:
        return f"absent ({peer.absent})"
    return f"failed ({peer.failed})" if peer.failed is not None else None


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs, by dotted names; None for what is in one alone."""
    flat = (dict(_flat(before)), dict(_flat(after)))
    return {
        name: (flat[0].get(name), flat[1].get(name))
        for name in dict.fromkeys((*flat[0], *flat[1]))
        if flat[0].get(name) != flat[1].get(name)
    }


def _flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
