"""What a run on a GPU writes to report.json. It is whole at any moment, and holds what was known then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from sdrt.errors import InputError
from sdrt_bench import report as reports
from sdrt_bench.bench import Limits
from sdrt_bench.report import Figure, Report

Status = Literal["waiting", "running", "done", "failed", "over its limit", "cut off", "skipped"]


class StepOutcome(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What became of one step.

    seconds: so far. limit: seconds that it may take. why: it failed or was skipped, in a line. sm_clock_mhz:
    least and most of the GPU's clock while it ran; None if the driver did not tell.
    """

    name: str
    title: str
    status: Status = "waiting"
    seconds: float = 0.0
    limit: float
    why: str | None = None
    sm_clock_mhz: tuple[float, float] | None = None


class Device(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """The card, its clocks, driver and libraries, as they name themselves."""

    facts: dict[str, str]


class Peaks(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """What the device reaches at most."""

    limits: Limits


class Sameness(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Something compared with its reference.

    psnr: of each picture, in dB; None for equal ones. relative_l2: of a network's output. gate: the least
    PSNR or the most relative L2 that is right.
    """

    what: str
    reference: str
    psnr: tuple[float | None, ...] = ()
    relative_l2: float | None = None
    gate: float

    @property
    def passed(self) -> bool:
        """Whether it is near enough."""
        if self.relative_l2 is not None:
            return self.relative_l2 <= self.gate
        return bool(self.psnr) and all(one is None or one >= self.gate for one in self.psnr)


class NetworkTime(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Seconds of one run of a graph, by the device's clock.

    pictures: at once; rows: of the batch. cuda_graph: replayed as one, else kernel by kernel.
    """

    model: str
    graph: str
    width: int
    height: int
    pictures: int
    rows: int
    cuda_graph: bool
    seconds: Figure


class Bench(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """A report of `sdrt bench`; a later one of the same name replaces it."""

    name: str
    report: Report


class Outcomes(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Outcomes of the tests that need a GPU; a later one replaces it. failed, skipped: which."""

    command: str
    passed: int
    failed: tuple[str, ...]
    skipped: tuple[str, ...]


Record = Device | Peaks | Sameness | NetworkTime | Bench | Outcomes


class GpuReport(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """All of `report.json`. rehearsal: made on a CPU with small models, and no measurement of anything."""

    kind: Literal["gpu"] = "gpu"
    schema: int = 1
    command: str
    date: str
    rehearsal: bool
    machine: dict[str, Any]
    steps: list[StepOutcome]
    records: list[Record] = []

    @property
    def benches(self) -> dict[str, Report]:
        """The newest report of each name."""
        return {one.name: one.report for one in self.records if isinstance(one, Bench)}

    @property
    def tests(self) -> Outcomes | None:
        """The newest outcomes."""
        return next((one for one in reversed(self.records) if isinstance(one, Outcomes)), None)


def write(report: GpuReport, path: Path) -> None:
    """Write a report beside its name and rename it, so that whoever is cut off leaves the one before."""
    text = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    replace(path, text)


def replace(path: Path, content: bytes) -> None:
    """Write a file that is whole under its name at any time."""
    making = path.with_name(f".{path.name}")
    making.write_bytes(content)
    making.replace(path)


def read(path: Path) -> GpuReport:
    """Read a report. Raises InputError if it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=GpuReport)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise InputError(f"{path} is not a report of benchmarks/gpu/run.sh: {error}") from None


class _Kind(msgspec.Struct):
    kind: str = ""


def benches_of(path: Path) -> Iterator[Report]:
    """The reports of `sdrt bench` in a report.json, which is one or holds several; of a rehearsal, none.

    Raises InputError if it is neither.
    """
    try:
        kind = msgspec.json.decode(path.read_bytes(), type=_Kind).kind
    except (OSError, UnicodeDecodeError, msgspec.DecodeError):
        kind = ""
    if kind == "gpu":
        found = read(path)
        yield from () if found.rehearsal else found.benches.values()
    else:
        yield reports.read(path)
