"""`sdrt export`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from sdrt.cli.lora_option import parse_lora
from sdrt.cli.stopping import stopping
from sdrt.cli.terminal import echo, echo_path, printable
from sdrt.errors import InputError, MissingExtraError

from .engine_options import ENGINE_PARAMETERS, EnginesAsked, engine_options, is_bundle

if TYPE_CHECKING:
    from sdrt.manifest import Precision

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "safetensors",
    "huggingface_hub",
)


@click.command()
@click.argument("source")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the bundle goes.  [default: engines/<name>]",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="What the graphs compute in.",
)
@click.option(
    "--variant", metavar="NAME", help="Which weight files: fp16, non_ema.  [default: the plain ones]"
)
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a repository of the hub.")
@click.option("--token", help="For the hub, instead of the one from `hf auth login` or HF_TOKEN.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="Describe a single file by the configs of a diffusers folder.  [default: recognise it]",
)
@click.option(
    "--vae",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Take the VAE of this file or folder.",
)
@click.option(
    "--lora",
    "loras",
    multiple=True,
    metavar="FILE[:WEIGHT]",
    help="Make a LoRA (.safetensors) part of the model; may be given several times.",
)
@click.option(
    "--textual-inversion",
    "embeddings",
    multiple=True,
    metavar="FILE[:TOKEN]",
    help="Add the word of an embedding file; may be given several times.",
)
@click.option(
    "--allow-pickle", is_flag=True, help="Read .ckpt, .pt and .bin files too: tensors and nothing else."
)
@click.option("--opset", type=int, default=23, show_default=True, metavar="N", help="ONNX operator set.")
@click.option(
    "--half-weights", is_flag=True, help="Compute in FP32, store the weights of an FP16 checkpoint in FP16."
)
@click.option(
    "--deep-cache", is_flag=True, help="Add a second U-Net graph, for `sdrt generate --deep-cache`."
)
@engine_options
@click.option("--force", is_flag=True, help="Replace the bundle that is there.")
@click.option("--no-verify", is_flag=True, help="Do not compare the graphs with PyTorch.")
def export(
    source: str,
    output: Path | None,
    precision: str,
    opset: int,
    half_weights: bool,
    deep_cache: bool,
    force: bool,
    no_verify: bool,
    engines: EnginesAsked,
    loras: tuple[str, ...],
    embeddings: tuple[str, ...],
    **options: Any,
) -> None:
    """Turn a checkpoint into a bundle that `sdrt generate` runs.

    SOURCE is `demo`, `random:sd15`, `random:sd21`, `random:sdxl`, or Stable Diffusion 1, 2 or XL: a folder in
    diffusers layout, a repository of the Hugging Face hub, as name/name, or a .safetensors file; or a folder
    of ONNX graphs that optimum exported. With --engine it may be a bundle, which then gets engines; a RANGE
    of their shapes is one size, or min:opt:max.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise MissingExtraError(package, "export")
    with _progress() as show, _stopping_at_stages(show) as progress:
        from sdrt.textual_inversion import parse_option

        from .exporter import export as run

        builders = engines.open()  # what is not installed is said before anything is exported
        if builders and is_bundle(source):
            _check_unused(click.get_current_context())
            target = Path(source).expanduser()
        else:
            target = run(
                source,
                output,
                precision=cast("Precision", precision),
                opset=opset,
                half_weights=half_weights,
                deep_cache=deep_cache,
                force=force,
                verify=not no_verify,
                loras=[*map(parse_lora, loras)],
                embeddings=[*map(parse_option, embeddings)],
                **options,
                progress=progress,
            )
        folders = engines.build(builders, target, progress)
    for path in folders or [target]:
        echo_path(path)


def _check_unused(context: click.Context) -> None:
    """Raise InputError if an option was given that is about graphs: those of a bundle are made."""
    given = {
        name
        for name in context.params
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    about_graphs = sorted(given - ENGINE_PARAMETERS - {"source"})
    if about_graphs:
        option = next(one.opts[-1] for one in context.command.params if one.name == about_graphs[0])
        raise InputError(
            f"{option} is for graphs, and those of {context.params['source']} are made; leave it out, or "
            "export the checkpoint anew"
        )


@contextlib.contextmanager
def _stopping_at_stages(show: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Stop at the next stage after a signal, should a library have swallowed it; torch.export can."""
    with stopping() as asked:

        def stage(name: str) -> None:
            asked.check()
            show(name)

        yield stage


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show stages on stderr: a moving line on a terminal, else one plain line each."""
    if not sys.stderr.isatty():
        yield lambda stage: echo(stage, err=True)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    with console.status("loading PyTorch") as status:

        def show(stage: str) -> None:
            stage = printable(stage)
            console.log(stage, highlight=False, markup=False)
            status.update(Text(stage))

        yield show


if __name__ == "__main__":
    export()
