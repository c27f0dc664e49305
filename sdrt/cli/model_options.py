"""Which model makes pictures, what is added to it, and what runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from sdrt.cli.lora_option import parse_lora
from sdrt.cli.sections import Section

if TYPE_CHECKING:
    from sdrt.manifest import Manifest
    from sdrt.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """As the command line gave them."""

    model: str | None
    loras: tuple[str, ...]
    lora_dirs: tuple[Path, ...]
    embeddings: tuple[str, ...]
    allow_pickle: bool
    backend: str
    verify: Literal["full", "fast"]
    cache: bool
    trust_engines: bool

    def bundle(self) -> Path:
        """The bundle's folder. Raises UnknownNameError or BundleError if there is none."""
        from sdrt.models import find_bundle

        return find_bundle(self.model)

    def load(self, manifest: Manifest, width: int, height: int, progress: Callable[[str], None]) -> Pipeline:
        """The bundle, loaded for pictures of a size. Raises as `Pipeline.load` does."""
        from sdrt.choice import AUTO, choose
        from sdrt.pipeline import Pipeline
        from sdrt.textual_inversion import parse_option

        bundle, backend = self.bundle(), self.backend
        if backend == AUTO:
            backend = choose(bundle, manifest, width=width, height=height).backend
        return Pipeline.load(
            bundle,
            backend=backend,
            verify=self.verify,
            loras=[*map(parse_lora, self.loras)],
            embeddings=[*map(parse_option, self.embeddings)],
            allow_pickle=self.allow_pickle,
            cache=self.cache,
            trust_engines=self.trust_engines,
            progress=progress,
        )


model_options = Section(
    "Model",
    click.option(
        "-m", "--model", metavar="BUNDLE", help="Bundle folder or its name under engines/.  [default: demo]"
    ),
    click.option(
        "--lora",
        "loras",
        multiple=True,
        metavar="FILE[:WEIGHT]",
        help="Add a LoRA (.safetensors) to the model; may be given several times.  [default weight: 1]",
    ),
    click.option(
        "--lora-dir",
        "lora_dirs",
        multiple=True,
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Where LoRAs lie that prompts name: <lora:name:0.8>; may be given several times.  "
        "[always: the folder loras in the bundle and beside it]",
    ),
    click.option(
        "--textual-inversion",
        "embeddings",
        multiple=True,
        metavar="FILE[:TOKEN]",
        help="Teach the model the word of an embedding file; may be given several times.",
    ),
    click.option(
        "--allow-pickle",
        is_flag=True,
        help="Read embeddings from .pt and .bin too: tensors and nothing else.",
    ),
    click.option(
        "--backend",
        default="auto",
        show_default=True,
        help="What runs the graphs: onnxruntime, onnxruntime:cuda, onnxruntime:tensorrt, openvino (bfloat16 "
        "where the CPU has it), openvino:f32, tensorrt, aoti (engines); auto is the quickest that "
        "`sdrt bench tune` found right, else the first that is installed.",
    ),
    click.option(
        "--verify",
        type=click.Choice(["full", "fast"]),
        default="full",
        help="full: SHA-256 of files that changed since the last time; fast: sizes and headers.",
    ),
    click.option(
        "--cache/--no-cache",
        default=True,
        help="Keep large graphs as their backend made them, in ~/.cache/sdrt/graphs, to load them faster.",
    ),
    click.option(
        "--trust-engines",
        is_flag=True,
        help="Load engines that were built elsewhere, too; an engine can do whatever you can.",
    ),
    name="model",
    gathered=ModelOptions,
)
