"""Rounds: each peer in turn is started, makes its first picture and some more, and ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from sdrt_bench.peers import Generated, Job
from sdrt_bench.peers.process import PeerAbsentError, PeerFailedError, Session
from sdrt_bench.report import Figure, ScalingPoint, Speed
from sdrt_bench.scenario import Scenario

Open = Callable[[str], Session]
Progress = Callable[[str], None]
_SCALING_RUNS = 3


@dataclass
class Measured:
    """What the rounds found of one peer, in seconds."""

    start: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    warm: list[Generated] = field(default_factory=list)
    peak_mb: float = 0.0

    def speed(self, batch: int) -> Speed:
        """The figures."""
        warm = self.warm
        steps = [one.seconds - one.text - one.vae for one in warm]  # the loop and what lies around it
        return Speed(
            start=Figure.of(self.start),
            load=Figure.of(self.load),
            first=Figure.of(self.first),
            picture=Figure.of([one.seconds / batch for one in warm]),
            text=Figure.of([one.text for one in warm]),
            evaluation=Figure.of([seconds for one in warm for seconds in one.evaluations]),
            evaluations=len(warm[0].evaluations),
            vae=Figure.of([one.vae for one in warm]),
            rest=Figure.of([left - sum(one.evaluations) for left, one in zip(steps, warm, strict=True)]),
            iterations_per_second=Figure.of(
                [len(one.evaluations) / left for left, one in zip(steps, warm, strict=True)]
            ),
            pictures_per_second=Figure.of([batch / one.seconds for one in warm]),
            peak_mb=self.peak_mb,
        )


@dataclass
class Rounds:
    """All peers' figures. absent, failed: why a peer has none."""

    measured: dict[str, Measured] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    load_average: list[float] = field(default_factory=list)


def job_of(scenario: Scenario, **changes: object) -> Job:
    """The scenario's request, with fields changed."""
    job = Job(
        prompt=scenario.prompt,
        seed=1,
        width=scenario.width,
        height=scenario.height,
        steps=scenario.steps,
        sampler=scenario.sampler,
        guidance_scale=scenario.guidance_scale,
        batch=scenario.batch,
    )
    return msgspec.structs.replace(job, **changes)


def run_rounds(scenario: Scenario, open_peer: Open, progress: Progress) -> Rounds:
    """Measure every peer, one process at a time, so that none takes the cores or the memory of another.

    Peers take turns: a slow moment of the machine hits none of them alone. A peer that fails is left out.
    """
    rounds = Rounds()
    for number in range(scenario.rounds):
        rounds.load_average.append(os.getloadavg()[0])
        for name in scenario.peers:
            if name in rounds.absent or name in rounds.failed:
                continue
            progress(f"round {number + 1} of {scenario.rounds}: {name}")
            try:
                with open_peer(name) as session:
                    _measure(scenario, session, rounds.measured.setdefault(name, Measured()))
            except PeerAbsentError as error:
                rounds.absent[name] = str(error)
            except PeerFailedError as error:
                rounds.failed[name] = str(error)
    for name in (*rounds.absent, *rounds.failed):
        rounds.measured.pop(name, None)
    return rounds


def _measure(scenario: Scenario, session: Session, measured: Measured) -> None:
    measured.start.append(session.import_s)
    measured.load.append(session.load())
    measured.first.append(session.generate(job_of(scenario))[1])
    for number in range(scenario.warm):
        # another prompt each time: who remembers prompts would encode none
        job = job_of(scenario, prompt=f"{scenario.prompt}, {number}", seed=number)
        measured.warm.append(session.generate(job)[0])
    measured.peak_mb = max(measured.peak_mb, session.peak_mb)


def run_scaling(
    scenario: Scenario, present: Mapping[str, object], open_peer: Open, progress: Progress
) -> Iterator[ScalingPoint]:
    """How time grows with batch, size and steps, one of them at a time, in one process for each peer."""
    if scenario.scaling is None:
        return
    for name in scenario.scaling.peers:
        if name not in present:
            continue
        progress(f"scaling: {name}")
        with open_peer(name) as session:
            session.load()
            for axis, value, job in _scaled(scenario):
                session.generate(job)  # new shapes are warmed up too
                seconds = [session.generate(job)[0].seconds for _ in range(_SCALING_RUNS)]
                yield ScalingPoint(peer=name, axis=axis, value=value, seconds=Figure.of(seconds))


def _scaled(scenario: Scenario) -> Iterator[tuple[str, int, Job]]:
    assert scenario.scaling is not None
    for batch in scenario.scaling.batch:
        yield "batch", batch, job_of(scenario, batch=batch)
    for size in scenario.scaling.sizes:
        yield "sizes", size, job_of(scenario, width=size, height=size)
    for steps in scenario.scaling.steps:
        yield "steps", steps, job_of(scenario, steps=steps)
