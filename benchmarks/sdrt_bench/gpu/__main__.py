"""python -m sdrt_bench.gpu, as benchmarks/gpu/run.sh calls it."""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sdrt_bench import machine
from sdrt_bench.gpu import page, plan
from sdrt_bench.gpu.report import GpuReport, StepOutcome
from sdrt_bench.gpu.runner import Log, Runner, step_command


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--minutes",
    type=click.FloatRange(min=0.2),
    default=8.0,
    show_default=True,
    help="Time for everything; what does not fit is skipped, and the report says so.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="gpu-report",
    show_default=True,
    help="Folder of report.json, report.md, plots and log.txt.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    default="build/gpu",
    show_default=True,
    help="Folder of models and engines; what a run has made there, the next one uses.",
)
@click.option("--only", multiple=True, metavar="STEP", help="This step, and what it needs; repeatable.")
@click.option(
    "--rehearse",
    is_flag=True,
    help="On a CPU, with small models: shows that every step runs, and measures nothing.",
)
@click.option("--list", "as_list", is_flag=True, help="Print the steps and end.")
def main(minutes: float, out: Path, work: Path, only: tuple[str, ...], rehearse: bool, as_list: bool) -> None:
    """Measure sdrt on this machine's NVIDIA GPU, most valuable first, in a run that may be cut off.

    Exits with 1 if a step failed or something is not the same as its reference.
    """
    steps = _chosen(plan.steps(), only)
    if as_list:
        for step in steps:
            click.echo(f"{step.name:22} {step.title}, at most {step.limit:.0f} s")
        return
    if rehearse:  # steps run side by side, and threads of OpenMP wait for each other by spinning
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    records = work / "records"
    records.mkdir(exist_ok=True)
    report = GpuReport(
        command=" ".join(["benchmarks/gpu/run.sh", *_words(minutes, only, rehearse)]),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        rehearsal=rehearse,
        machine=machine.describe(),
        steps=[StepOutcome(name=one.name, title=one.title, limit=one.limit) for one in steps],
    )
    log = Log(out / "log.txt")
    runner = Runner(
        steps,
        report,
        command=step_command(work.resolve(), rehearse=rehearse),
        folder=records,
        log=log,
        seconds=60 * minutes,
        rehearse=rehearse,
        builds=(plan.rehearsal if rehearse else plan.real)(os.cpu_count() or 1).builds,
        save=lambda: page.write(report, out),
    )
    page.write(report, out)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        runner.run()
    except KeyboardInterrupt:
        log.say("run", "stopped; the report says what was known")
    log.say("run", f"the report is in {out}")
    sys.exit(page.troubles(report) != [])


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _chosen(steps: list[plan.Step], only: tuple[str, ...]) -> list[plan.Step]:
    """Those that were asked for, and all that they need, in the order of the plan."""
    if not only:
        return steps
    by_name = {one.name: one for one in steps}
    wanted: set[str] = set()
    left = list(only)
    while left:
        name = left.pop()
        if name not in by_name:
            raise click.BadParameter(f"there is no step {name}; there are {', '.join(by_name)}")
        wanted.add(name)
        left += by_name[name].needs
    return [one for one in steps if one.name in wanted]


def _words(minutes: float, only: tuple[str, ...], rehearse: bool) -> list[str]:
    words = [] if minutes == 8.0 else ["--minutes", f"{minutes:g}"]
    words += [word for name in only for word in ("--only", name)]
    return [*words, *(["--rehearse"] if rehearse else [])]


if __name__ == "__main__":
    main()
