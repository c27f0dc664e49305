"""`sdrt generate`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from sdrt.cli.lora_option import parse_lora
from sdrt.cli.sampler_options import asked_sigma_schedule, sampler_options
from sdrt.cli.status import status
from sdrt.image_files import check_output, default_name

if TYPE_CHECKING:
    from sdrt.pipeline import Pipeline, Progress
    from sdrt.request import Request
    from sdrt.samplers import SigmaSchedule


@click.command(context_settings={"show_default": True})
@click.argument("prompt")
@click.option(
    "-m", "--model", metavar="BUNDLE", help="Bundle folder or its name under engines/.  [default: demo]"
)
@click.option("-N", "--negative", metavar="TEXT", default="", help="What the picture should not show.")
@click.option("--steps", type=int, help="Sampler steps.  [default: the model's]")
@click.option("-g", "--guidance", type=float, help="Guidance scale; 1 is none.  [default: the model's]")
@click.option(
    "--guidance-interval",
    nargs=2,
    type=float,
    default=(0.0, 1.0),
    metavar="FROM TO",
    help="Parts of the steps that are guided; the others take half the time.",
)
@click.option(
    "--deep-cache",
    type=int,
    default=1,
    metavar="N",
    help="Run the whole U-Net once in N evaluations; for bundles exported with --deep-cache.",
)
@click.option("--sampler", metavar="NAME", help="As `sdrt samplers` lists them.  [default: the model's]")
@sampler_options
@click.option("--seed", type=int, default=-1, help="Picture i uses seed + i; -1 is a random seed.")
@click.option("-n", "--count", type=int, default=1, help="How many pictures.")
@click.option("-W", "--width", type=int, help="Pixels.  [default: the model's]")
@click.option("-H", "--height", type=int, help="Pixels.  [default: the model's]")
@click.option(
    "--prompt-syntax",
    type=click.Choice(["a1111", "plain"]),
    default="a1111",
    help="a1111: (weights:1.2), [a:b:0.5], AND, BREAK; plain: brackets are text.",
)
@click.option("--clip-skip", type=int, help="Layer of the text encoder from the end.  [default: the model's]")
@click.option(
    "--init-image",
    type=click.Path(path_type=Path),
    help="Picture to change, for inpainting and InstructPix2Pix models.",
)
@click.option(
    "--mask", type=click.Path(path_type=Path), help="For inpainting models: what to paint is white."
)
@click.option(
    "--image-guidance", type=float, help="How closely InstructPix2Pix keeps to the picture.  [default: 1.5]"
)
@click.option(
    "--lora",
    "loras",
    multiple=True,
    metavar="FILE[:WEIGHT]",
    help="Add a LoRA (.safetensors) to the model; may be given several times.  [default weight: 1]",
)
@click.option(
    "--textual-inversion",
    "embeddings",
    multiple=True,
    metavar="FILE[:TOKEN]",
    help="Teach the model the word of an embedding file; may be given several times.",
)
@click.option(
    "--allow-pickle", is_flag=True, help="Read embeddings from .pt and .bin too: tensors and nothing else."
)
@click.option(
    "--backend",
    default="auto",
    show_default=True,
    help="What runs the graphs: onnxruntime, onnxruntime:cuda, onnxruntime:tensorrt, openvino (bfloat16 "
    "where the CPU has it), openvino:f32, tensorrt (engines); auto is the quickest that `sdrt bench tune` "
    "found right, else the first that is installed.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="PNG to write; a name that exists gets a number.  [default: from the prompt]",
)
@click.option(
    "--verify",
    type=click.Choice(["full", "fast"]),
    default="full",
    help="full: SHA-256 of files that changed since the last time; fast: sizes and headers.",
)
@click.option(
    "--cache/--no-cache",
    default=True,
    help="Keep large graphs as their backend made them, in ~/.cache/sdrt/graphs, to load them faster.",
)
@click.option(
    "--trust-engines",
    is_flag=True,
    help="Load engines that were built elsewhere, too; an engine can do whatever you can.",
)
@click.option("--no-limits", is_flag=True, help="Allow more than 4 Mpixel, 200 steps or 100 pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print paths, settings and times as JSON.")
def generate(
    prompt: str,
    model: str | None,
    negative: str,
    guidance: float | None,
    sigma_schedule: SigmaSchedule | None,
    karras: bool,
    loras: tuple[str, ...],
    embeddings: tuple[str, ...],
    allow_pickle: bool,
    backend: str,
    output: Path | None,
    verify: Literal["full", "fast"],
    cache: bool,
    trust_engines: bool,
    no_limits: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Make pictures from PROMPT and print where they are.

    Without -m this runs the demo model that comes with the package.
    """
    from sdrt import manifest as manifests
    from sdrt.choice import AUTO, choose
    from sdrt.models import find_bundle
    from sdrt.pipeline import Pipeline
    from sdrt.request import resolve_request
    from sdrt.textual_inversion import parse_option

    started = time.perf_counter()
    output = output or Path(default_name(prompt))
    check_output(output)
    bundle = find_bundle(model)
    # the manifest alone tells whether the request is sound; the graphs are loaded after that
    manifest = manifests.read(bundle / manifests.FILE_NAME)
    request = resolve_request(
        manifest,
        prompt,
        negative_prompt=negative,
        guidance_scale=guidance,
        sigma_schedule=asked_sigma_schedule(sigma_schedule, karras),
        limits=not no_limits,
        **settings,
    )
    if backend == AUTO:
        backend = choose(bundle, manifest, width=request.width, height=request.height).backend
    with status() as progress:
        pipeline = Pipeline.load(
            bundle,
            backend=backend,
            verify=verify,
            loras=[*map(parse_lora, loras)],
            embeddings=[*map(parse_option, embeddings)],
            allow_pickle=allow_pickle,
            cache=cache,
            trust_engines=trust_engines,
            progress=progress,
        )
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
                description=f"{name} of {request.count}",
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
