"""How long it takes to compile a sampler, every sampler with every rule of noise levels.

python -m sdrt_bench.samplers [--output FILE]        also: make bench

One process, warm; rounds over all samplers, so that a slow moment of the machine hits none of them alone.
"""

from __future__ import annotations

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


def compile_times(runs: int) -> dict[str, dict[str, float]]:
    """Milliseconds by sampler and rule of noise levels: median, least and most of `runs` compilations."""
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(runs + 1):  # the first warms up
        for sampler in SAMPLERS.values():
            for rule in _rules(sampler):
                schedule = NoiseSchedule(sigma_schedule=rule, prediction_type=sampler.predictions[0])
                steps = most_steps(sampler, schedule)
                started = time.perf_counter()
                compile_sampler(sampler.name, schedule, steps)
                times[f"{sampler.name} {rule}"].append((time.perf_counter() - started) * 1e3)
    return {
        name: {"median": median(taken[1:]), "least": min(taken[1:]), "most": max(taken[1:])}
        for name, taken in times.items()
    }


def most_steps(sampler: Sampler, schedule: NoiseSchedule) -> int:
    """STEPS, or as many as a sampler of distilled models knows."""
    return schedule.original_inference_steps if sampler.name in ("lcm", "tcd") else STEPS


def _rules(sampler: Sampler) -> tuple[SigmaSchedule, ...]:
    return get_args(SigmaSchedule) if sampler.has_sigma_schedules else ("plain",)


@click.command()
@click.option("--runs", default=15, show_default=True, help="How often each is measured.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the report as JSON.")
def main(runs: int, output: Path | None) -> None:
    """Measure how long compiling a sampler of 100 steps takes (LCM and TCD: 50, they know no more)."""
    times = compile_times(runs)
    for name, taken in times.items():
        click.echo(f"{name:32} {taken['median']:6.2f} ms  ({taken['least']:.2f} to {taken['most']:.2f})")
    slowest = max(times, key=lambda name: times[name]["median"])
    under = "yes" if times[slowest]["median"] < LIMIT_MS else "no"
    click.echo(f"slowest: {slowest}, {times[slowest]['median']:.2f} ms; all under {LIMIT_MS:.0f} ms: {under}")
    if output is not None:
        command = f"python -m sdrt_bench.samplers --runs {runs}"
        machine.write_report(output, command, steps=STEPS, slowest=slowest, milliseconds=times)


if __name__ == "__main__":
    main()
