"""The options of `sdrt export` that are about engines, and what they ask for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdrt.errors import InputError
from sdrt.profiles import Range

from .engine_builders import BUILDERS, BuilderOptions, open_builder
from .engine_shapes import Shapes

if TYPE_CHECKING:
    from sdrt.engines import EngineKind

    from .engines import EngineBuilder, Progress


@dataclass(frozen=True, kw_only=True)
class EnginesAsked:
    """Engines to build: their kinds, shapes, and how."""

    kinds: Sequence[EngineKind]
    shapes: Shapes
    options: BuilderOptions

    def open(self) -> list[EngineBuilder]:
        """The builders. Raises InputError if there is something to build with but nothing to build."""
        if not self.kinds and (self.shapes, self.options) != (Shapes(), BuilderOptions()):
            raise InputError("shapes and ways to build are for engines; add --engine KIND")
        return [open_builder(kind, self.options) for kind in self.kinds]

    def build(self, builders: Sequence[EngineBuilder], bundle: Path, progress: Progress) -> list[Path]:
        """Build all of them; returns their folders."""
        from .engines import build_engines

        return [build_engines(bundle, builder, self.shapes, progress) for builder in builders]


def is_bundle(source: str) -> bool:
    """Whether a source has graphs already, to build engines from."""
    from sdrt.manifest import FILE_NAME

    return (Path(source).expanduser() / FILE_NAME).is_file()


def _ranges(*names: str, help: str, default: str | None = None) -> Callable[[Any], Any]:
    """An option that takes a range."""
    return click.option(
        *names,
        metavar="RANGE",
        default=default,
        show_default=default is not None,
        callback=lambda context, option, text: None if text is None else Range.parse(text),
        help=help,
    )


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options, as one argument `engines`: EnginesAsked."""

    @functools.wraps(command)
    def with_engines(
        *,
        engine: tuple[EngineKind, ...],
        width: Range | None,
        height: Range | None,
        batch: Range,
        chunks: Range,
        static: bool,
        refittable: bool,
        builder_level: int | None,
        memory_limit: float | None,
        **rest: Any,
    ) -> None:
        shapes = Shapes(width=width, height=height, batch=batch, chunks=chunks, static=static)
        options = BuilderOptions(refittable=refittable, level=builder_level, memory_limit=memory_limit)
        asked = EnginesAsked(kinds=engine, shapes=shapes, options=options)
        command(engines=asked, **rest)

    for option in reversed(_OPTIONS):
        with_engines = option(with_engines)
    return with_engines


ENGINE_PARAMETERS = {
    *("engine", "width", "height", "batch", "chunks", "static"),
    *("refittable", "builder_level", "memory_limit"),
}
_OPTIONS = (
    click.option(
        "--engine",
        multiple=True,
        type=click.Choice([*BUILDERS]),
        help="Build engines for this machine too; for a SOURCE that is a bundle, build them in it.",
    ),
    _ranges("--width", help="Of engines, in pixels.  [default: the model's]"),
    _ranges("--height", help="Of engines, in pixels.  [default: the model's]"),
    _ranges("--batch", default="1", help="Pictures that engines make at once."),
    _ranges("--chunks", default="1", help="Of 77 tokens, in prompts that engines take."),
    click.option("--static", is_flag=True, help="Engines for one shape alone, the quickest."),
    click.option("--refittable", is_flag=True, help="Engines that take LoRAs when they are loaded."),
    click.option(
        "--builder-level",
        type=click.IntRange(0, 5),
        help="How long to look for quicker ways: 0 builds soonest, 5 runs quickest.  [default: 3]",
    ),
    click.option(
        "--memory-limit",
        type=click.FloatRange(min=0, min_open=True),
        metavar="GB",
        help="What a layer of an engine may use of the GPU's memory to be quicker.  [default: all]",
    ),
)
