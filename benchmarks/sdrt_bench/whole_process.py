"""Whole processes, from start to exit: `sdrt generate` against a script of diffusers that does the same."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from math import isinf
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from sdrt_bench.image_quality import psnr
from sdrt_bench.peers import Job, PeerStart
from sdrt_bench.peers.schedulers import SCHEDULERS
from sdrt_bench.report import Figure, WholeProcess
from sdrt_bench.scenario import Scenario
from sdrt_bench.speed import job_of

_SCRIPT = """\
import torch
from diffusers import {scheduler}, StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained({model!r}, torch_dtype=torch.float32, safety_checker=None)
pipeline.scheduler = {scheduler}.from_config(pipeline.scheduler.config{settings})
image = pipeline(
    {prompt!r},
    width={width},
    height={height},
    num_inference_steps={steps},
    guidance_scale={guidance_scale},
    generator=torch.Generator("cpu").manual_seed({seed}),
).images[0]
image.save({picture!r})
"""
# in what the report shows, where the folders of this machine were
_PICTURE, _BUNDLE, _CHECKPOINT = "PICTURE", "BUNDLE", "CHECKPOINT"


def measure(
    scenario: Scenario, starts: Mapping[str, PeerStart], folder: Path, progress: Callable[[str], None]
) -> WholeProcess:
    """Time both, in turn, after one run of each that is not counted.

    starts: of every peer; the scenario's `whole_process.peer` is run against its reference's checkpoint.
    """
    settings = scenario.whole_process
    assert settings is not None
    job = job_of(scenario, batch=1)
    sdrt, diffusers = starts[settings.peer], starts[scenario.reference]
    known = job.sampler in SCHEDULERS
    shown = WholeProcess(
        sdrt_command=shlex.join(
            ["sdrt", *sdrt_words(job, msgspec.structs.replace(sdrt, model=_BUNDLE), _PICTURE)]
        ),
        diffusers_script=diffusers_script(job, _CHECKPOINT, _PICTURE) if known else "",
    )
    if not known:
        return msgspec.structs.replace(
            shown, failed=f"diffusers is not driven with the sampler {job.sampler}"
        )
    pictures = folder / "whole-sdrt.png", folder / "whole-diffusers.png"
    commands = (
        [sys.executable, "-m", "sdrt", *sdrt_words(job, sdrt, str(pictures[0]))],
        [sys.executable, "-c", diffusers_script(job, diffusers.model, str(pictures[1]))],
    )
    rows: list[tuple[float, ...]] = []
    for number in range(settings.runs + 1):
        progress(f"whole processes: {number} of {settings.runs}")
        try:
            rows.append(tuple(_run(*pair) for pair in zip(commands, pictures, strict=True)))
        except ProcessError as error:
            return msgspec.structs.replace(shown, failed=str(error))
    ours, theirs = zip(*rows[1:], strict=True)
    ratio = psnr(*(np.asarray(Image.open(picture).convert("RGB")) for picture in pictures))
    return msgspec.structs.replace(
        shown,
        sdrt=Figure.of(ours),
        diffusers=Figure.of(theirs),
        ratio=Figure.of([their / our for our, their in zip(ours, theirs, strict=True)]),
        psnr=None if isinf(ratio) else ratio,
    )


class ProcessError(Exception):
    """A process failed or left no picture; the message is what it said last."""


def sdrt_words(job: Job, start: PeerStart, picture: str) -> list[str]:
    """The words after `sdrt`."""
    options = {
        "-m": start.model,
        "--backend": start.backend,
        "--sampler": job.sampler,
        "--steps": job.steps,
        "-g": job.guidance_scale,
        "--seed": job.seed,
        "-W": job.width,
        "-H": job.height,
        "-o": picture,
    }
    words = [word for name, value in options.items() for word in (name, str(value))]
    if start.guidance_interval is not None:
        words += ["--guidance-interval", *map(str, start.guidance_interval)]
    if start.deep_cache != 1:
        words += ["--deep-cache", str(start.deep_cache)]
    return ["generate", *words, "--", job.prompt]


def diffusers_script(job: Job, model: str, picture: str) -> str:
    """What a user of diffusers would write."""
    scheduler, settings = SCHEDULERS[job.sampler]
    return _SCRIPT.format(
        scheduler=scheduler,
        settings="".join(f", {name}={value!r}" for name, value in settings.items()),
        model=model,
        prompt=job.prompt,
        width=job.width,
        height=job.height,
        steps=job.steps,
        guidance_scale=job.guidance_scale,
        seed=job.seed,
        picture=picture,
    )


def _run(command: Sequence[str], picture: Path) -> float:
    """Seconds of a process that must leave a picture."""
    picture.unlink(missing_ok=True)  # no file is ever overwritten: it would be written beside it
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    seconds = time.perf_counter() - started
    if done.returncode or not picture.is_file():
        said = [line for line in (*done.stdout.splitlines(), *done.stderr.splitlines()) if line.strip()]
        last = said[-1].strip() if said else "it said nothing"
        raise ProcessError(f"{picture.stem} ended with exit code {done.returncode}: {last}")
    return seconds
