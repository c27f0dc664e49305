"""How far `sdrt generate` is: a bar on stderr, if anybody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sdrt.cli.stopping import check_stopped

if TYPE_CHECKING:
    from sdrt.pictures import Progress
    from sdrt.request import Request


@contextmanager
def progress_bar(requests: Sequence[Request]) -> Iterator[Callable[[Progress], None]]:
    """What to call after each evaluation: picture 12 of 96, 3.4 it/s, 2 min left."""
    if not sys.stderr.isatty():
        yield lambda _: check_stopped()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", rate="", left="")
        left = TimeLeft(requests)
        batch_began = 0.0

        def show(at: Progress) -> None:
            nonlocal batch_began
            check_stopped()
            now = time.perf_counter()
            if at.done == 0:
                batch_began = now
            rate = at.done / (now - batch_began) if at.done else 0.0
            last = at.first + at.batch
            name = f"picture {last}" if at.batch == 1 else f"pictures {at.first + 1}-{last}"
            bars.update(
                task,
                description=f"{name} of {at.total}",
                completed=at.done,
                total=at.evaluations,
                rate=f"{rate:.2f} it/s" if at.done else "",
                left=left.told(at, now),
            )

        yield show


class TimeLeft:
    """How long a run will take, from how long it took so far."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._work = sum(_work(one) * one.count for one in requests)
        self._before = 0.0
        self._began: float | None = None

    def told(self, at: Progress, now: float) -> str:
        """The time left at `now`, in seconds of any clock; nothing as long as nothing tells it."""
        if self._began is None:
            self._began = now
        batch = sum(map(_work, at.requests))
        done = self._before + batch * at.done / at.evaluations
        if at.done == at.evaluations:
            self._before += batch
        return f"{_duration((now - self._began) * (self._work / done - 1))} left" if done else ""


def _work(request: Request) -> float:
    """What a picture takes, in proportion to others."""
    return request.width * request.height * (request.steps - request.start_step)


def _duration(seconds: float) -> str:
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
