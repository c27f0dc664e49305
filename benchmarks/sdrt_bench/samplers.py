"""How long it takes to compile a sampler, every sampler with every rule of noise levels.

python -m sdrt_bench.samplers [--output FILE]        also: make bench

One process, warm; rounds over all samplers, so that a slow moment of the machine hits none of them alone. For
three of them also the first compilation of a process, which is what one `sdrt generate` pays.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import get_args

import click

from sdrt.samplers import SAMPLERS, NoiseSchedule, Sampler, SigmaSchedule, compile_sampler
from sdrt_bench import machine

STEPS = 100
LIMIT_MS = 20.0

# a simple one, the usual one, one of the slowest
FIRST: tuple[tuple[str, SigmaSchedule], ...] = (
    ("euler", "plain"),
    ("dpmpp_2m", "karras"),
    ("unipc_3", "beta"),
)
_FIRST_COMPILATION = """
import sys, time
started = time.perf_counter()
from sdrt.samplers import NoiseSchedule, compile_sampler
imported = time.perf_counter()
compile_sampler(sys.argv[1], NoiseSchedule(sigma_schedule=sys.argv[2]), int(sys.argv[3]))
print([(imported - started) * 1e3, (time.perf_counter() - imported) * 1e3])
"""


def compile_times(runs: int) -> dict[str, dict[str, float]]:
    """Milliseconds by sampler and rule of noise levels: median, least and most of `runs` compilations.

    steps: STEPS, or as many as a sampler of distilled models knows.
    """
    times: dict[str, list[float]] = defaultdict(list)
    counts: dict[str, int] = {}
    for _ in range(runs + 1):  # the first warms up
        for sampler in SAMPLERS.values():
            for rule in _rules(sampler):
                schedule = NoiseSchedule(sigma_schedule=rule, prediction_type=sampler.predictions[0])
                name = f"{sampler.name} {rule}"
                counts[name] = steps = _most_steps(sampler, schedule)
                started = time.perf_counter()
                compile_sampler(sampler.name, schedule, steps)
                times[name].append((time.perf_counter() - started) * 1e3)
    return {name: {"steps": counts[name], **_spread(taken[1:])} for name, taken in times.items()}


def first_compilations(runs: int) -> dict[str, dict[str, float]]:
    """Milliseconds of the first compilation of a process, `runs` processes each: median, least and most.

    import: the median of what comes before it, importing sdrt.samplers, and numpy with it.
    """
    imports: dict[str, list[float]] = defaultdict(list)
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(runs + 1):  # the first reads the files from the disk
        for name, rule in FIRST:
            command = [sys.executable, "-c", _FIRST_COMPILATION, name, rule, str(STEPS)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            imported, compiled = json.loads(printed)
            imports[f"{name} {rule}"].append(imported)
            times[f"{name} {rule}"].append(compiled)
    return {
        name: {"import": median(imports[name][1:]), **_spread(taken[1:])} for name, taken in times.items()
    }


def _spread(taken: list[float]) -> dict[str, float]:
    return {"median": median(taken), "least": min(taken), "most": max(taken)}


def _most_steps(sampler: Sampler, schedule: NoiseSchedule) -> int:
    return schedule.original_inference_steps if sampler.name in ("lcm", "tcd") else STEPS


def _rules(sampler: Sampler) -> tuple[SigmaSchedule, ...]:
    return get_args(SigmaSchedule) if sampler.has_sigma_schedules else ("plain",)


@click.command()
@click.option("--runs", default=15, show_default=True, help="How often each is measured.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the report as JSON.")
def main(runs: int, output: Path | None) -> None:
    """Measure how long compiling a sampler of 100 steps takes (LCM and TCD: 50, they know no more)."""
    times, first = compile_times(runs), first_compilations(runs)
    for name, taken in times.items():
        click.echo(f"{name:32} {taken['steps']:3} steps {_line(taken)}")
    for name, taken in first.items():
        click.echo(f"{name:23} in a new process {_line(taken)}, after {taken['import']:.0f} ms of imports")
    slowest = max(times, key=lambda name: times[name]["median"])
    under = "yes" if times[slowest]["median"] < LIMIT_MS else "no"
    click.echo(f"slowest: {slowest}, {times[slowest]['median']:.2f} ms; all under {LIMIT_MS:.0f} ms: {under}")
    if output is not None:
        command = f"python -m sdrt_bench.samplers --runs {runs}"
        machine.write_report(
            output, command, slowest=slowest, milliseconds=times, first_in_process_milliseconds=first
        )


def _line(taken: dict[str, float]) -> str:
    return f"{taken['median']:6.2f} ms  ({taken['least']:.2f} to {taken['most']:.2f})"


if __name__ == "__main__":
    main()
