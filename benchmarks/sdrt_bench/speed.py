"""Rounds: each peer in turn is started, makes its first picture and some more, and ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType

import msgspec

from sdrt_bench.peers import CONVERTING, Generated, Job
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
    notes: dict[str, None] = field(default_factory=dict)  # each once, in their order
    peak_mb: float = 0.0
    device_mb: float | None = None

    def speed(self, batch: int) -> Speed:
        """The figures."""
        warm = self.warm
        stages = _Stages.of(warm)
        return Speed(
            start=Figure.of(self.start),
            load=Figure.of(self.load),
            first=Figure.of(self.first),
            picture=Figure.of([one.seconds / batch for one in warm]),
            text=_figure(stages.text),
            evaluation=_figure([seconds for run in stages.evaluations for seconds in run]),
            evaluations=len(stages.evaluations[0]) if stages.evaluations else None,
            vae=_figure(stages.vae),
            rest=_figure(stages.rest),
            iterations_per_second=_figure(stages.iterations_per_second),
            pictures_per_second=Figure.of([batch / one.seconds for one in warm]),
            peak_mb=self.peak_mb,
            device_mb=self.device_mb,
        )


@dataclass(frozen=True)
class _Stages:
    """Parts of each picture, in seconds; empty lists are what the peer does not tell."""

    text: list[float]
    evaluations: list[tuple[float, ...]]
    vae: list[float]
    rest: list[float]
    iterations_per_second: list[float]

    @classmethod
    def of(cls, pictures: Sequence[Generated]) -> _Stages:
        told = [
            (one.seconds - one.text - one.vae, one.evaluations)  # the loop and what lies around it
            for one in pictures
            if one.text is not None and one.vae is not None and one.evaluations
        ]
        return cls(
            text=[one.text for one in pictures if one.text is not None],
            evaluations=[one.evaluations for one in pictures if one.evaluations],
            vae=[one.vae for one in pictures if one.vae is not None],
            rest=[left - sum(evaluations) for left, evaluations in told],
            iterations_per_second=[len(evaluations) / left for left, evaluations in told],
        )


def _figure(values: Sequence[float]) -> Figure | None:
    return Figure.of(values) if values else None


@dataclass
class Rounds:
    """All peers' figures. absent, failed: why a peer has none. converted: seconds, where it was needed."""

    measured: dict[str, Measured] = field(default_factory=dict)
    converted: dict[str, float] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
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


def run_rounds(
    scenario: Scenario,
    open_peer: Open,
    progress: Progress,
    so_far: Callable[[Rounds], None] = lambda rounds: None,
) -> Rounds:
    """Measure every peer, one process at a time, so that none takes the cores or the memory of another.

    Peers take turns: a slow moment of the machine hits none of them alone. A peer that fails is left out.
    so_far: is given the figures after each round.
    """
    rounds = Rounds()
    _convert(scenario, rounds, open_peer, progress)
    for number in range(scenario.rounds):
        _run_round(scenario, number, rounds, open_peer, progress)
        so_far(rounds)
    for name in (*rounds.absent, *rounds.failed):
        rounds.measured.pop(name, None)
    return rounds


@contextmanager
def standing_together(
    scenario: Scenario,
    open_peer: Open,
    progress: Progress,
    so_far: Callable[[Rounds], None] = lambda rounds: None,
) -> Iterator[tuple[Rounds, Open]]:
    """Start all peers at once and measure them in turn while all of them stay open.

    Yields the figures, and how to open a peer: it is lent the process that stands. A peer that fails is left
    out.
    """
    rounds, sessions = Rounds(), dict[str, Session]()
    _convert(scenario, rounds, open_peer, progress)

    def start(name: str) -> None:
        with _noting_failure(rounds, name):
            session = sessions[name] = open_peer(name)
            rounds.versions[name] = session.versions
            _start(scenario, session, rounds.measured.setdefault(name, Measured()))
            progress(f"{name} has made its first picture")

    names = [name for name in scenario.peers if name not in rounds.failed and name not in rounds.absent]
    progress(f"starting {', '.join(names)}")
    with ExitStack() as stack:
        try:
            with ThreadPoolExecutor(len(names) or 1) as pool:
                list(pool.map(start, names))
        finally:
            for session in sessions.values():
                stack.enter_context(session)
        for number in range(scenario.rounds):
            _run_round(scenario, number, rounds, lambda name: _Lent(sessions[name]), progress)
            so_far(rounds)
        for name in (*rounds.absent, *rounds.failed):
            rounds.measured.pop(name, None)
        yield rounds, lambda name: _Lent(sessions[name])


class _Lent:
    """A session that stands: it is loaded, and goes on when whoever it was lent to is done."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.import_s, self.versions = session.import_s, session.versions
        self.convert, self.generate, self.work = session.convert, session.generate, session.work

    @property
    def peak_mb(self) -> float:
        return self._session.peak_mb

    @property
    def device_mb(self) -> float | None:
        return self._session.device_mb

    def load(self) -> float:
        return 0.0

    def __enter__(self) -> _Lent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def _run_round(scenario: Scenario, number: int, rounds: Rounds, open_peer: Open, progress: Progress) -> None:
    rounds.load_average.append(os.getloadavg()[0])
    for name in scenario.peers:
        if name in rounds.absent or name in rounds.failed:
            continue
        progress(f"round {number + 1} of {scenario.rounds}: {name}")
        with _noting_failure(rounds, name), open_peer(name) as session:
            rounds.versions[name] = session.versions
            measured = rounds.measured.setdefault(name, Measured())
            if not scenario.together:
                _start(scenario, session, measured)
            _run_warm(scenario, session, measured)


def _convert(scenario: Scenario, rounds: Rounds, open_peer: Open, progress: Progress) -> None:
    """What peers need only once is in no figure of a start."""
    for name, settings in scenario.peers.items():
        if settings.runner in CONVERTING:
            progress(f"converting: {name}")
            with _noting_failure(rounds, name), open_peer(name) as session:
                rounds.converted[name] = session.convert()


@contextmanager
def _noting_failure(rounds: Rounds, name: str) -> Iterator[None]:
    try:
        yield
    except PeerAbsentError as error:
        rounds.absent[name] = str(error)
    except PeerFailedError as error:
        rounds.failed[name] = str(error)


def _start(scenario: Scenario, session: Session, measured: Measured) -> None:
    measured.start.append(session.import_s)
    measured.load.append(session.load())
    measured.first.append(session.generate(job_of(scenario))[1])


def _run_warm(scenario: Scenario, session: Session, measured: Measured) -> None:
    for number in range(scenario.warm):
        # another prompt each time: who remembers prompts would encode none
        job = job_of(scenario, prompt=f"{scenario.prompt}, {number}", seed=number)
        generated = session.generate(job)[0]
        measured.warm.append(generated)
        measured.notes |= dict.fromkeys(generated.notes)
    measured.peak_mb = max(measured.peak_mb, session.peak_mb)
    if session.device_mb is not None:
        measured.device_mb = max(measured.device_mb or 0.0, session.device_mb)


def run_scaling(
    scenario: Scenario, rounds: Rounds, open_peer: Open, progress: Progress
) -> Iterator[ScalingPoint]:
    """How time grows with batch, size and steps, one of them at a time, in one process for each peer.

    A peer that fails at that is noted in `rounds` and keeps the points that it has.
    """
    if scenario.scaling is None:
        return
    for name in scenario.scaling.peers:
        if name not in rounds.measured:
            continue
        progress(f"scaling: {name}")
        with _noting_failure(rounds, name), open_peer(name) as session:
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
