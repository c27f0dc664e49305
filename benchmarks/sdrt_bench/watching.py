"""What it costs to watch a run: previews and decoded frames on the demo model.

    python -m sdrt_bench.watching [--output FILE]        also: make bench

Milliseconds per evaluation, medians of whole pictures made in turns, and how many times as long as unwatched.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click

from sdrt.frame_files import FrameFolder, PreviewFile
from sdrt.pipeline import Pipeline
from sdrt.request import Request, resolve_request
from sdrt.watcher import Watcher
from sdrt_bench import machine

PROMPT = "a large red circle on a blue background"
SIZES = (64, 256)
Made = Callable[[Request, Path], Watcher]
WATCHED: dict[str, Made] = {
    "unwatched": lambda request, folder: Watcher([request]),
    "preview_projected": lambda request, folder: Watcher([request], preview=PreviewFile(folder / "x.png")),
    "preview_decoded": lambda request, folder: Watcher(
        [request], preview=PreviewFile(folder / "x.png"), project_previews=False
    ),
    "gif": lambda request, folder: Watcher([request], animation=folder / "x.gif"),
    "gif_projected": lambda request, folder: Watcher(
        [request], animation=folder / "x.gif", project_frames=True
    ),
    "frames": lambda request, folder: Watcher([request], folder=FrameFolder(folder / "frames", 1)),
}


def measure(runs: int, size: int) -> dict[str, dict[str, float]]:
    """Each way of watching a picture of size x size: {"ms": per evaluation, "ratio": to unwatched}."""
    times: defaultdict[str, list[float]] = defaultdict(list)
    with Pipeline.load(backend="onnxruntime") as pipeline:
        request = resolve_request(pipeline.manifest, PROMPT, seed=1, width=size, height=size)
        for _ in range(runs + 1):
            for name, make in WATCHED.items():
                with tempfile.TemporaryDirectory() as folder:
                    watcher = make(request, Path(folder))
                    started = time.perf_counter()
                    for picture in pipeline.run(request, watcher.step):
                        watcher.finish(picture)
                    times[name].append((time.perf_counter() - started) / request.steps * 1e3)
    unwatched = times["unwatched"][1:]  # the first run warms up
    return {
        name: {
            "ms": round(median(values[1:]), 2),
            # of runs that were next to each other
            "ratio": round(median(a / b for a, b in zip(values[1:], unwatched, strict=True)), 3),
        }
        for name, values in times.items()
    }


@click.command()
@click.option("--runs", default=9, show_default=True, help="How often each is measured.")
@click.option("--size", "sizes", type=int, multiple=True, default=SIZES, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write the report as JSON.")
def main(runs: int, sizes: tuple[int, ...], output: Path | None) -> None:
    """Measure what previews and frames add to each evaluation, on the demo model."""
    measured = {f"{size}x{size}": measure(runs, size) for size in sizes}
    for size, figures in measured.items():
        click.echo(size)
        for name, one in figures.items():
            click.echo(f"  {name:18} {one['ms']:8.2f} ms per evaluation, {one['ratio']:.2f} x unwatched")
    if output is not None:
        asked = " ".join(f"--size {size}" for size in sizes)
        machine.write_report(output, f"python -m sdrt_bench.watching --runs {runs} {asked}", **measured)


if __name__ == "__main__":
    main()
