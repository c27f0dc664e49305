"""`sdrt generate`."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdrt.cli.distilled_note import proposals
from sdrt.cli.from_option import Again, from_option
from sdrt.cli.job_run import JobRun
from sdrt.cli.lora_option import parse_lora
from sdrt.cli.lora_tags import take_lora_tags
from sdrt.cli.many_options import ManyOptions, many_options
from sdrt.cli.model_options import ModelOptions, model_options
from sdrt.cli.output_options import output_options
from sdrt.cli.picture_options import picture_options
from sdrt.cli.progress_bar import progress_bar
from sdrt.cli.prompt_options import prompt_options
from sdrt.cli.reports import json_of, summary_of
from sdrt.cli.sampler_options import asked_sigma_schedule
from sdrt.cli.sampling_options import sampling_options
from sdrt.cli.sections import SectionedCommand
from sdrt.cli.status import status
from sdrt.cli.terminal import echo, echo_json, echo_path
from sdrt.cli.watch_options import WatchOptions, watch_options
from sdrt.image_files import check_output

if TYPE_CHECKING:
    from sdrt.samplers import SigmaSchedule


@click.command(cls=SectionedCommand, context_settings={"show_default": True})
@click.argument("prompt", required=False)
@prompt_options
@sampling_options
@picture_options
@from_option
@many_options
@watch_options
@model_options
@output_options
def generate(
    prompt: str | None,
    again: Path | None,
    model: ModelOptions,
    many: ManyOptions,
    watch: WatchOptions,
    sigma_schedule: SigmaSchedule | None,
    karras: bool,
    output: Path | None,
    quality: int,
    as_json: bool,
    **settings: Any,
) -> None:
    """Make pictures from PROMPT and print where they are.

    Without -m this runs the demo model that comes with the package.
    """
    from sdrt import manifest as manifests
    from sdrt.many.jobs import resolve_jobs

    started = time.perf_counter()
    if prompt is None and not (again or many.says_prompts or settings["blend"]):
        raise click.UsageError("Missing argument 'PROMPT'.", click.get_current_context())
    if prompt is not None and many.prompts is not None:
        raise click.UsageError("PROMPT and --prompts exclude each other.", click.get_current_context())
    settings |= {"prompt": prompt or "", "sigma_schedule": asked_sigma_schedule(sigma_schedule, karras)}
    source = None if again is None else Again.read(again)
    if source is not None:
        settings, model = source.settings(settings), source.model(model)
    output, sheet_path = many.pattern(output), many.sheet_path(many.pattern(output))
    if sheet_path is not None:
        check_output(sheet_path)
    # the manifest alone tells whether all that is asked for is sound; the graphs are loaded after that
    manifest = manifests.read(model.bundle() / manifests.FILE_NAME)
    if source is not None:
        source.warn(manifest)
    with status() as progress:
        progress("checking what is asked for")
        asked, tagged = take_lora_tags(many.asked(settings, output), model.bundle(), model.lora_dirs)
        model = replace(model, loras=(*model.loras, *tagged))
        requests, jobs = resolve_jobs(manifest, asked, output)
        for line in proposals([parse_lora(one)[0] for one in model.loras], requests[0]):
            echo(f"Note: {line}", err=True)
        watched = [job.request for job in jobs]
        watcher = watch.watcher(manifest, watched, in_one=many.interpolate is not None)
        pipeline = model.load(manifest, jobs[0].request.width, jobs[0].request.height, progress)
        progress("looking for pictures that are there already")
        sheet = many.sheet(jobs, settings["prompt"])
        run = JobRun(pipeline, jobs, resume=many.resume, sheet=sheet, watcher=watcher, quality=quality)
    loaded = time.perf_counter()
    with progress_bar(run.requests) as on_step:
        for path in run.paths(on_step):
            if not as_json:
                echo_path(path)
    sheet_file = None if sheet_path is None else run.save_sheet(sheet_path)
    watcher.end()
    if not as_json:
        for path in (*filter(None, [sheet_file]), *watcher.written):
            echo_path(path)
    request = None if many.several else requests[0]
    finished = time.perf_counter()
    if as_json:
        seconds = {"load": loaded - started, "generate": finished - loaded}
        compared = {} if source is None else {"from": source.describe(manifest, run.first)}
        echo_json(json_of(run, request, sheet_file, seconds, compared))
    elif source is not None and not many.several:
        echo(source.verdict(run.first), err=True)
    elif sys.stderr.isatty():
        echo(f"{summary_of(run, request)}, {finished - loaded:.2f} s", err=True)
