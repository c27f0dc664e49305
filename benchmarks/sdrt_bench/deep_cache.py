"""What `--deep-cache` gains and costs on the demo model: time, nearness to the picture without, and score.

    sdrt export demo -o engines/demo-deep --deep-cache
    python -m sdrt_bench.deep_cache engines/demo-deep [--output FILE]

The pictures are those that the demo model is scored with: 400 prompts about combinations that it never saw.
Each prompt is run with every interval in turn, so that their times can be compared; the first one warms up.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from sdrt.pipeline import Pipeline
from sdrt_bench import machine
from sdrt_bench.image_quality import psnr

INTERVALS = (1, 2, 3, 5)
_EQUAL = 100.0  # dB that stand for infinitely many


def measure(bundle: Path, count: int | None = None) -> dict[str, dict[str, Any]]:
    """Figures by interval.

    count: of prompts, all by default. psnr_db: to the picture of interval 1, median and lowest tenth.
    """
    from sdrt_export.demo.scoring import held_out_prompts, score

    prompts = held_out_prompts()[:: 1 if count is None else max(400 // count, 1)]
    pictures, seconds = _generate(bundle, [(prompt.text, prompt.seed) for prompt in prompts])
    figures = {}
    for interval in INTERVALS:
        made = np.stack(pictures[interval])
        figures[str(interval)] = {
            "seconds": median(seconds[interval]),
            "score": asdict(score(lambda _, made=made: made, prompts)),  # type: ignore[misc]
        }
        if interval > 1:
            near = [min(psnr(*pair), _EQUAL) for pair in zip(pictures[1], made, strict=True)]
            figures[str(interval)]["psnr_db"] = {
                "median": median(near),
                "lowest_tenth": quantiles(near, n=10)[0],
            }
    return figures


def _generate(
    bundle: Path, prompts: Sequence[tuple[str, int]]
) -> tuple[dict[int, list[NDArray[np.uint8]]], dict[int, list[float]]]:
    """Pictures and their times by interval, for prompts with their seeds."""
    pictures, seconds = defaultdict(list), defaultdict(list)
    with Pipeline.load(bundle) as pipeline:
        for interval in INTERVALS:
            pipeline.generate(*prompts[0][:1], deep_cache=interval)
        for text, seed in prompts:
            for interval in INTERVALS:
                started = time.perf_counter()
                (picture,) = pipeline.generate(text, seed=seed, deep_cache=interval)
                seconds[interval].append(time.perf_counter() - started)
                pictures[interval].append(picture.pixels)
    return pictures, seconds


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--count", type=int, help="Of prompts.  [default: all 400]")
@click.option("--output", type=click.Path(path_type=Path), help="Write the report as JSON.")
def main(bundle: Path, count: int | None, output: Path | None) -> None:
    """Measure BUNDLE, the demo model exported with --deep-cache."""
    figures = measure(bundle, count)
    for interval, found in figures.items():
        score, near = found["score"], found.get("psnr_db")
        click.echo(
            f"--deep-cache {interval}: {1000 * found['seconds']:.0f} ms, "
            f"right in colour, shape and background {100 * score['colour_shape_background']:.1f} %, "
            f"two things {100 * score['all_of_two']:.1f} %"
            + (f", {near['median']:.1f} dB (lowest tenth {near['lowest_tenth']:.1f})" if near else "")
        )
    if output is not None:
        machine.write_report(output, f"python -m sdrt_bench.deep_cache {bundle.name}", intervals=figures)


if __name__ == "__main__":
    main()
