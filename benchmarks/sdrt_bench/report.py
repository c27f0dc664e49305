"""What a bench report holds: `report.json`, read back by `sdrt bench compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sdrt.errors import InputError
from sdrt_bench.peers import Work
from sdrt_bench.scenario import Scenario


class Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A measured quantity: median, extremes and percentiles of `count` values."""

    median: float
    least: float
    most: float
    p90: float
    p99: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Of at least one value."""
        median, p90, p99 = (float(value) for value in np.percentile(values, (50, 90, 99)))
        return cls(median=median, least=min(values), most=max(values), p90=p90, p99=p99, count=len(values))


class Speed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds, but for what says otherwise. None: the peer does not tell.

    start: from starting the process until everything is imported; load: of the model; first: the first
    picture. picture: later ones, of which text, vae and the U-Net's evaluations are parts and rest is what
    remains; evaluation: each by itself. peak_mb: most host memory of the process; device_mb: of the GPU.
    """

    start: Figure
    load: Figure
    first: Figure
    picture: Figure
    text: Figure | None
    evaluation: Figure | None
    evaluations: int | None
    vae: Figure | None
    rest: Figure | None
    iterations_per_second: Figure | None
    pictures_per_second: Figure
    peak_mb: float
    device_mb: float | None = None


class Quality(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Against the reference's pictures. None stands for equal pictures, whose PSNR is infinite.

    psnr, ssim: by picture; divergence: root mean square difference of the latents after each step, of the
    pictures by sampler, the mean over them. scores: shares of the demo model's pictures that are right.
    """

    psnr: dict[str, float | None]
    ssim: dict[str, float]
    divergence: dict[str, tuple[float, ...]]
    scores: dict[str, float]

    @property
    def least_psnr(self) -> float:
        """Of the worst picture, in dB."""
        return min(float("inf") if value is None else value for value in self.psnr.values())

    @property
    def least_ssim(self) -> float:
        """Of the worst picture."""
        return min(self.ssim.values())


class GraphFidelity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A graph against its PyTorch module, the worst of what the manifest says. tolerance: None, not held."""

    relative_l2: float
    max_abs: float
    cosine: float
    tolerance: float | None


class PeerReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was found of one peer. absent: the import that failed; failed: why there are no figures.

    versions: of the distributions it runs. notes: what it did otherwise than asked. uncompared: why there is
    no quality. convert_s: seconds for making what it can read of the checkpoint, once, before all rounds.
    teraflops: reached in the U-Net, counted in sdrt's graph; of_peak: their share of the machine's fastest
    matrix product in that precision. ratios: how many times the reference takes as long for a `picture` and
    for an `evaluation`, in each round the ratio of the medians. missed: gates that it misses.
    """

    absent: str | None = None
    failed: str | None = None
    versions: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    uncompared: str | None = None
    convert_s: float | None = None
    speed: Speed | None = None
    quality: Quality | None = None
    graphs: dict[str, GraphFidelity] = {}
    teraflops: float | None = None
    of_peak: float | None = None
    ratios: dict[str, Figure] = {}
    missed: tuple[str, ...] = ()


class ScalingPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds of a job in which `axis` (batch, sizes or steps) has this value."""

    peer: str
    axis: str
    value: int
    seconds: Figure


class WholeProcess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds from starting a process until it has ended, with the picture on disk.

    ratio: diffusers' time over sdrt's, of the runs that followed each other. psnr: of sdrt's picture against
    diffusers', in dB; None for equal ones. sdrt_command, diffusers_script: what was run; PICTURE, BUNDLE
    and CHECKPOINT stand for the places. failed: why there are no figures.
    """

    sdrt_command: str
    diffusers_script: str
    sdrt: Figure | None = None
    diffusers: Figure | None = None
    ratio: Figure | None = None
    psnr: float | None = None
    failed: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of `report.json`.

    load_average: of the machine over the last minute, before each round: above 1 or 2 it was not alone.
    work: of one run of each graph, one picture, guided. bandwidth: of memory, bytes per second.
    """

    schema: int = 1
    command: str
    date: str
    machine: dict[str, Any]
    load_average: tuple[float, ...]
    peak_teraflops: dict[str, float]
    scenario: Scenario
    bandwidth: float
    work: dict[str, Work]
    peers: dict[str, PeerReport]
    scaling: tuple[ScalingPoint, ...]
    whole_process: WholeProcess | None = None

    @property
    def missed(self) -> list[str]:
        """Every gate that is missed, with its peer."""
        return [f"{name}: {gate}" for name, peer in self.peers.items() for gate in peer.missed]


def write(report: Report, path: Path) -> None:
    """Write a report as indented JSON."""
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    path.write_bytes(text + b"\n")


def read(path: Path) -> Report:
    """Read a report. Raises InputError if it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise InputError(f"{path} is not a report of sdrt bench: {error}") from None
