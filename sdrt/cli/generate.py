"""`sdrt generate`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdrt.cli.model_options import ModelOptions, model_options
from sdrt.cli.output_options import output_options
from sdrt.cli.picture_options import picture_options
from sdrt.cli.prompt_options import prompt_options
from sdrt.cli.sampler_options import asked_sigma_schedule
from sdrt.cli.sampling_options import sampling_options
from sdrt.cli.sections import SectionedCommand
from sdrt.cli.status import status
from sdrt.image_files import check_output, default_name

if TYPE_CHECKING:
    from sdrt.pipeline import Pipeline, Progress
    from sdrt.request import Request
    from sdrt.samplers import SigmaSchedule


@click.command(cls=SectionedCommand, context_settings={"show_default": True})
@click.argument("prompt")
@prompt_options
@sampling_options
@picture_options
@model_options
@output_options
def generate(
    prompt: str,
    model: ModelOptions,
    sigma_schedule: SigmaSchedule | None,
    karras: bool,
    output: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Make pictures from PROMPT and print where they are.

    Without -m this runs the demo model that comes with the package.
    """
    from sdrt import manifest as manifests
    from sdrt.request import resolve_request

    started = time.perf_counter()
    output = output or Path(default_name(prompt))
    check_output(output)
    # the manifest alone tells whether the request is sound; the graphs are loaded after that
    manifest = manifests.read(model.bundle() / manifests.FILE_NAME)
    settings["sigma_schedule"] = asked_sigma_schedule(sigma_schedule, karras)
    request = resolve_request(manifest, prompt, **settings)
    with status() as progress:
        pipeline = model.load(manifest, request.width, request.height, progress)
    loaded = time.perf_counter()
    paths = []
    with _progress_bar(request) as on_step:
        for picture in pipeline.run(request, on_step):
            paths.append(picture.save(output))
            if not as_json:
                click.echo(paths[-1])
    finished = time.perf_counter()
    if as_json:
        click.echo(_json(request, paths, pipeline, load=loaded - started, generate=finished - loaded))
    elif sys.stderr.isatty():
        click.echo(f"{_summary(request)}, {finished - loaded:.2f} s", err=True)


@contextmanager
def _progress_bar(request: Request) -> Iterator[Callable[[Progress], None]]:
    """What to call after each evaluation: a bar with it/s if anybody watches."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", rate="")
        started = 0.0

        def show(at: Progress) -> None:
            nonlocal started
            if at.done == 0:
                started = time.perf_counter()
            rate = at.done / (time.perf_counter() - started) if at.done else 0.0
            last = at.first + at.batch
            name = f"picture {last}" if at.batch == 1 else f"pictures {at.first + 1}-{last}"
            bars.update(
                task,
                description=f"{name} of {at.total}",
                completed=at.done,
                total=at.evaluations,
                rate=f"{rate:.2f} it/s" if at.done else "",
            )

        yield show


def _summary(request: Request) -> str:
    from sdrt.samplers import SAMPLERS

    sampler = SAMPLERS[request.sampler].title
    if request.sigma_schedule != "plain":
        sampler += f" {request.sigma_schedule.capitalize()}"
    return (
        f"{request.width}x{request.height}, {request.steps} steps of {sampler}, "
        f"guidance {request.guidance_scale:g}, seed {request.seed}"
    )


def _json(request: Request, paths: list[Path], pipeline: Pipeline, **seconds: float) -> str:
    from sdrt.metadata import describe_added

    pictures = [{"path": str(path), "seed": (request.seed + i) % 2**64} for i, path in enumerate(paths)]
    settings = {name: getattr(request, name) for name in request.__dataclass_fields__}
    rounded = {name: round(value, 4) for name, value in seconds.items()}
    added = describe_added(pipeline.loras, pipeline.embeddings)
    said = {"pictures": pictures, "request": settings, "backend": pipeline.runtime.name, **added}
    said["seconds"] = rounded
    return json.dumps(said, indent=2, default=str)
