"""Runs steps in processes of their own, each with a time limit, and writes what is known as it comes.

Measuring steps have the machine to themselves. The others may run beside each other, but start only while no
measuring step is ready or running: what is worth most is measured first. In a rehearsal all run side by side.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from sdrt_bench.gpu.plan import Step
from sdrt_bench.gpu.report import GpuReport, Record, Status, StepOutcome
from sdrt_bench.gpu.steps import nvidia_smi

_POLL = 0.2  # seconds
_CLOCK_EVERY = 2.0
_GRACE = 5.0  # kept for the last report

Command = Callable[[Step, Path], Sequence[str]]


class Log:
    """The raw log: each line with the seconds since the start and who said it; on the screen too."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", errors="replace")
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def say(self, who: str, line: str) -> None:
        """Write one line."""
        text = f"{time.monotonic() - self._started:7.1f} {who}: {line}"
        with self._lock:
            self._file.write(text + "\n")
            self._file.flush()
            print(text, flush=True)


@dataclass
class _Running:
    """A step's process. taken: bytes of `records` that were read."""

    step: Step
    outcome: StepOutcome
    process: subprocess.Popen[str]
    reader: threading.Thread
    records: Path
    started: float
    last_lines: list[str]
    taken: int = 0
    clocks: list[float] = field(default_factory=list)
    clock_read: float = 0.0


class Runner:
    """One run. save: writes the report, and is called whenever there is something new.

    command: that runs a step and writes its records to a file. builds: steps that may run beside each other.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        report: GpuReport,
        *,
        command: Command,
        folder: Path,
        log: Log,
        seconds: float,
        builds: int,
        rehearse: bool,
        save: Callable[[], None],
    ) -> None:
        self._steps = list(steps)
        self._outcomes = {one.name: one for one in report.steps}
        self._report, self._save = report, save
        self._command, self._folder, self._log = command, folder, log
        self._ends = time.monotonic() + seconds - _GRACE
        self._builds, self._rehearse = builds, rehearse
        self._running: list[_Running] = []

    def run(self) -> None:
        """Run everything that time allows. After SIGINT or SIGTERM too the report says what was cut off."""
        try:
            while self._advance():
                time.sleep(_POLL)
        finally:
            for one in list(self._running):
                self._end(one, "cut off", "the run was stopped")
            self._save()

    def _advance(self) -> bool:
        """Look after what runs and start what can; False once there is nothing left."""
        changed = False
        for one in list(self._running):
            changed |= self._look_after(one)
        for step in self._steps:
            outcome = self._outcomes[step.name]
            if outcome.status == "waiting":
                why = self._hopeless(step)
                if why is not None:
                    outcome.status, outcome.why = "skipped", why
                    self._log.say(step.name, f"skipped: {why}")
                    changed = True
                elif self._may_start(step):
                    self._start(step)
                    changed = True
        if changed:
            self._save()
        return bool(self._running) or any(one.status == "waiting" for one in self._outcomes.values())

    def _hopeless(self, step: Step) -> str | None:
        """Why a step that waits will not run."""
        if self._rehearse and not step.rehearsed:
            return "it cannot be rehearsed on a CPU"
        for needed in step.needs:
            status = self._outcomes[needed].status if needed in self._outcomes else "not asked for"
            if status not in ("done", "waiting", "running"):
                return f"it needs {needed}, which was {status}"
        left = self._ends - time.monotonic()
        if left < step.least:
            return f"{max(left, 0):.0f} s were left, and it is worth starting with {step.least:.0f}"
        return None

    def _is_ready(self, step: Step) -> bool:
        return self._outcomes[step.name].status == "waiting" and all(
            self._outcomes[needed].status == "done" for needed in step.needs
        )

    def _may_start(self, step: Step) -> bool:
        if not self._is_ready(step):
            return False
        if self._rehearse:  # figures mean nothing, so nothing need be alone
            return len(self._running) < self._builds
        if step.measures:
            return not self._running
        if any(one.step.measures for one in self._running) or len(self._running) >= self._builds:
            return False
        earlier = self._steps[: self._steps.index(step)]
        return not any(one.measures and self._is_ready(one) for one in earlier)

    def _start(self, step: Step) -> None:
        outcome, records = self._outcomes[step.name], self._folder / f"{step.name}.jsonl"
        records.unlink(missing_ok=True)
        records.touch()
        self._log.say(step.name, f"starts: {step.title}")
        process = subprocess.Popen(
            self._command(step, records),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # so that what it starts can be ended with it
        )
        assert process.stdout is not None
        last_lines: list[str] = []
        reader = threading.Thread(
            target=self._read, args=(step.name, process.stdout, last_lines), daemon=True
        )
        reader.start()
        outcome.status = "running"
        self._running.append(_Running(step, outcome, process, reader, records, time.monotonic(), last_lines))

    def _read(self, name: str, output: IO[str], last_lines: list[str]) -> None:
        for line in output:
            line = line.rstrip()
            self._log.say(name, line)
            if line.strip():
                last_lines[:] = [*last_lines[-4:], line.strip()]

    def _look_after(self, one: _Running) -> bool:
        """Whether there is something new of it."""
        changed = self._take_records(one)
        now = time.monotonic()
        one.outcome.seconds = now - one.started
        if one.step.measures and now - one.clock_read > _CLOCK_EVERY:
            one.clock_read = now
            self._read_clock(one)
        code = one.process.poll()
        if code is not None:
            one.reader.join(timeout=2)
            if code == 0:
                self._end(one, "done", None)
            else:
                said = one.last_lines[-1] if one.last_lines else "it said nothing"
                self._end(one, "failed", f"exit code {code}: {said}")
            return True
        if now - one.started > one.step.limit:
            self._end(one, "over its limit", f"killed after {one.step.limit:.0f} s")
            return True
        if now > self._ends:
            self._end(one, "cut off", "the time of the run was over")
            return True
        return changed

    def _take_records(self, one: _Running) -> bool:
        with one.records.open("rb") as file:
            file.seek(one.taken)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]  # a line that is being written is left for the next look
        one.taken += len(whole)
        for line in whole.splitlines():
            self._report.records.append(msgspec.json.decode(line, type=Record))
        return bool(whole)

    def _read_clock(self, one: _Running) -> None:
        found = nvidia_smi(("clocks.sm",)).get("clocks.sm", "").split()
        if found and found[0].isdigit():
            one.clocks.append(float(found[0]))
            one.outcome.sm_clock_mhz = (min(one.clocks), max(one.clocks))

    def _end(self, one: _Running, status: Status, why: str | None) -> None:
        """End a step's processes, whichever it started, and keep what it had found."""
        with_group = one.process.pid
        for kill in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(with_group, kill)
            except ProcessLookupError:
                break
            if one.process.poll() is None:
                try:
                    one.process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    continue
        one.process.wait()
        self._take_records(one)
        one.outcome.status, one.outcome.why = status, why
        one.outcome.seconds = time.monotonic() - one.started
        self._running.remove(one)
        self._log.say(one.step.name, f"{status} after {one.outcome.seconds:.1f} s{f': {why}' if why else ''}")


def step_command(work: Path, *, rehearse: bool) -> Command:
    """How a step is run: this Python, and the module `child`."""

    def command(step: Step, records: Path) -> Sequence[str]:
        words = [sys.executable, "-m", "sdrt_bench.gpu.child", step.name, str(work), str(records)]
        return [*words, "--rehearse"] if rehearse else words

    return command
