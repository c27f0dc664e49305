"""What `sdrt generate` says of a run when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdrt.cli.job_run import JobRun
    from sdrt.request import Request


def summary_of(run: JobRun, request: Request | None) -> str:
    """A line for people. request: None of several."""
    from sdrt.samplers import SAMPLERS

    if request is None:
        there = sum(one.was_there for one in run.made)
        return f"{len(run.made)} pictures" + (f", {there} of them were there already" if there else "")
    sampler = SAMPLERS[request.sampler].title
    if request.has_levels:
        sampler += f" on {request.schedule or 'levels of its own'}"
    elif request.sigma_schedule != "plain":
        sampler += f" {request.sigma_schedule.capitalize()}"
    return (
        f"{request.width}x{request.height}, {request.steps} steps of {sampler}, "
        f"guidance {request.guidance_scale:g}, seed {request.seed}"
    )


def json_of(
    run: JobRun,
    request: Request | None,
    sheet: Path | None,
    seconds: Mapping[str, float],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """For scripts. request: None of several; each picture says its own then. more: what else is said."""
    from sdrt.metadata import describe_added

    pictures: list[dict[str, Any]] = []
    for one in run.made:
        picture: dict[str, Any] = {"path": str(one.path), "seed": one.seed}
        if one.was_there:
            picture["was_there"] = True
        if request is None:
            picture["request"] = {**vars(one.job.request), "seed": one.seed}
        pictures.append(picture)
    pipeline = run.pipeline
    return {
        "pictures": pictures,
        **({"grid": str(sheet)} if sheet is not None else {}),
        **({"animations": run.watcher.written} if run.watcher.written else {}),
        **({"request": vars(request)} if request is not None else {}),
        "backend": pipeline.runtime.name,
        **describe_added(pipeline.loras, pipeline.embeddings),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        **more,
    }
