"""The parent's side: a peer's process, started, asked and ended."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, TypeVar

import msgspec

from sdrt.errors import SdrtError
from sdrt_bench import elsewhere
from sdrt_bench.peers import Answer, Command, Generated, Job, PeerStart, Work

_T = TypeVar("_T")


class PeerAbsentError(SdrtError):
    """A peer is not installed; the message is the import that failed."""


class PeerFailedError(SdrtError):
    """A peer is there and cannot do what it was asked."""


class Session(Protocol):
    """A peer between its start and its end. Whoever tests the measuring puts another in its place."""

    import_s: float
    versions: dict[str, str]

    @property
    def peak_mb(self) -> float:
        """Most host memory that its process has held so far."""
        ...

    @property
    def device_mb(self) -> float | None:
        """Most memory of the GPU so far; None if it runs none."""
        ...

    def convert(self) -> float:
        """Make what the peer can read of the checkpoint; seconds."""
        ...

    def load(self) -> float:
        """Load the model; seconds."""
        ...

    def generate(self, job: Job) -> tuple[Generated, float]:
        """Run a job; what the peer says of it, and the seconds it took to answer."""
        ...

    def work(self, job: Job) -> dict[str, Work]:
        """Of one run of each graph."""
        ...

    def __enter__(self) -> Session: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class PeerProcess:
    """A peer in a process of its own. import_s: from starting it until it has imported what it needs.

    python: the interpreter of another environment, in which sdrt need not be installed.
    Raises PeerAbsentError or PeerFailedError.
    """

    def __init__(self, start: PeerStart, python: str | None = None) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        self.peak_mb = 0.0
        self.device_mb: float | None = None
        own = [sys.executable, "-m", "sdrt_bench.peers.child"]
        child = own if python is None else elsewhere.command(python)
        command = [*child, msgspec.json.encode(start).decode()]
        started = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        try:
            self.versions = self._read().versions
        except BaseException:
            self._end()
            raise
        self.import_s = time.perf_counter() - started

    def convert(self) -> float:
        """Make what the peer can read of the checkpoint; seconds."""
        return _timed(lambda: self._ask(Command(do="convert")))[1]

    def load(self) -> float:
        """Load the model; seconds."""
        return _timed(lambda: self._ask(Command(do="load")))[1]

    def generate(self, job: Job) -> tuple[Generated, float]:
        """Run a job; what the peer says of it, and the seconds it took to answer."""
        answer, seconds = _timed(lambda: self._ask(Command(do="generate", job=job)))
        if answer.generated is None:
            raise PeerFailedError("the peer's answer has no figures")
        return answer.generated, seconds

    def work(self, job: Job) -> dict[str, Work]:
        """Of one run of each graph."""
        return self._ask(Command(do="work", job=job)).work or {}

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _ask(self, command: Command) -> Answer:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(command).decode() + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: what it last said, or its log, tells why
        return self._read()

    def _read(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            said = self._log.read().decode(errors="replace").split("\n")
            last = next((text for text in reversed(said) if text.strip()), "it said nothing")
            raise PeerFailedError(f"it ended with exit code {code}: {last.strip()}")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.absent is not None:
            raise PeerAbsentError(answer.absent)
        if answer.error is not None:
            raise PeerFailedError(answer.error)
        self.peak_mb = max(self.peak_mb, answer.peak_mb or 0.0)
        if answer.device_mb is not None:
            self.device_mb = max(self.device_mb or 0.0, answer.device_mb)
        return answer

    def _end(self) -> None:
        """Its stdin at an end, it stops by itself; if it does not, it is killed."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=20)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


def _timed(call: Callable[[], _T]) -> tuple[_T, float]:
    started = time.perf_counter()
    answer = call()
    return answer, time.perf_counter() - started
