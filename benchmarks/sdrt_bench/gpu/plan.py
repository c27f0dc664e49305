"""The steps, in order of value, and what sizes they run at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sdrt_bench.gpu.steps import Context


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What is measured where. sizes: width and height in pixels. pictures: at once, in the row curve.

    builds: steps that prepare something at the same time; jobs: engines that each of them builds at a time.
    """

    device: Literal["cpu", "cuda"]
    sd: str
    xl: str
    sd_size: int
    xl_size: int
    steps: int
    rounds: int
    warm: int
    pictures: tuple[int, ...]
    builds: int
    jobs: int

    @property
    def backend(self) -> str:
        """The backend whose engines can be built with what is there."""
        return f"aoti:{self.device}"


def real(cores: int) -> Scale:
    """On a GPU."""
    return Scale(
        device="cuda", sd="random:sd15", xl="random:sdxl", sd_size=512, xl_size=1024, steps=30,
        rounds=3, warm=3, pictures=(1, 2, 4, 8), builds=max(cores // 4, 1), jobs=max(cores // 4, 1),
    )  # fmt: skip


def rehearsal(cores: int) -> Scale:
    """On a CPU: the same way with models and pictures so small that figures mean nothing."""
    return Scale(
        device="cpu", sd="random:tiny", xl="random:tiny-xl", sd_size=32, xl_size=32, steps=2,
        rounds=1, warm=1, pictures=(1, 2), builds=cores, jobs=1,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step, run in a process of its own.

    measures: it has the machine to itself; others prepare something, and may run beside each other. needs:
    steps that must be done. limit: seconds, after which it is killed. least: seconds that must be left for
    it to be worth starting. rehearsed: it can run on a CPU.
    """

    name: str
    title: str
    run: Callable[[Context], None]
    measures: bool = False
    needs: Sequence[str] = ()
    limit: float
    least: float = 5.0
    rehearsed: bool = True


def steps() -> list[Step]:
    """All of them. What is worth most comes first, for the run may end at any time."""
    from sdrt_bench.gpu import steps as run

    return [
        Step(name="machine", title="What the machine is, and its limits", run=run.machine, measures=True,
             limit=60),
        Step(name="demo-engines", title="Engines of the demo model", run=run.demo_engines, limit=180),
        Step(name="sd15-bundle", title="Stable Diffusion 1.5: bundle in FP16 and its engines",
             run=run.sd15_bundle, limit=300, least=30),
        Step(name="sd15-checkpoint", title="Stable Diffusion 1.5: checkpoint for PyTorch",
             run=run.sd15_checkpoint, limit=120),
        Step(name="demo", title="Pictures of the demo model against onnxruntime's on the CPU", run=run.demo,
             measures=True, needs=("demo-engines",), limit=90),
        Step(name="sd15", title="Stable Diffusion 1.5 beside PyTorch", run=run.sd15, measures=True,
             needs=("machine", "sd15-bundle", "sd15-checkpoint"), limit=300, least=40),
        Step(name="rows-engines", title="Engines for several pictures at once", run=run.rows_engines,
             needs=("sd15-bundle",), limit=240, least=30),
        Step(name="rows", title="Networks by number of pictures, and against PyTorch in FP32", run=run.rows,
             measures=True, needs=("sd15-bundle", "sd15-checkpoint"), limit=120, least=10),
        Step(name="sd15-autotuned-bundle", title="Stable Diffusion 1.5: engines with kernels tried out",
             run=run.sd15_autotuned_bundle, needs=("sd15-bundle",), limit=300, least=60,
             rehearsed=False),  # AOTInductor has one kernel for each product on a CPU
        Step(name="sd15-autotuned", title="Stable Diffusion 1.5 with kernels tried out", measures=True,
             run=run.sd15_autotuned, needs=("machine", "sd15-autotuned-bundle", "sd15-checkpoint"),
             limit=300, least=60),
        Step(name="sdxl-bundle", title="Stable Diffusion XL: bundle in FP16 and its engines",
             run=run.sdxl_bundle, limit=400, least=60),
        Step(name="sdxl-checkpoint", title="Stable Diffusion XL: checkpoint for PyTorch",
             run=run.sdxl_checkpoint, limit=240, least=30),
        Step(name="sdxl", title="Stable Diffusion XL beside PyTorch", run=run.sdxl, measures=True,
             needs=("machine", "sdxl-bundle", "sdxl-checkpoint"), limit=300, least=40),
        Step(name="turbo-engines", title="Stable Diffusion XL Turbo: engines", run=run.turbo_engines,
             needs=("sdxl-bundle",), limit=240, least=30),
        Step(name="turbo", title="Stable Diffusion XL Turbo, one step, beside PyTorch", run=run.turbo,
             measures=True, needs=("machine", "turbo-engines", "sdxl-checkpoint"), limit=240, least=40),
        Step(name="tests", title="Tests that need a GPU", run=run.tests, measures=True, limit=480, least=30),
    ]  # fmt: skip
