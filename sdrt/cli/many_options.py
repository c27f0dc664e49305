"""Many pictures in one run of `sdrt generate`: from a file of prompts, or along the axes of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdrt.cli.sections import Section
from sdrt.errors import InputError

if TYPE_CHECKING:
    from sdrt.many.axes import Axis
    from sdrt.many.contact_sheet import ContactSheet
    from sdrt.many.jobs import Asked, Job

RANDOM_SEEDS = (None, -1)


@dataclass(frozen=True, kw_only=True)
class ManyOptions:
    """As the command line gave them."""

    prompts: Path | None
    interpolate: tuple[str, str] | None
    frames: int
    x: str | None
    y: str | None
    grid: Path | None
    grid_columns: int | None
    resume: bool

    @property
    def compares(self) -> bool:
        """Whether there are axes."""
        return self.x is not None or self.y is not None

    @property
    def several(self) -> bool:
        """Whether more is asked for than one prompt with one set of settings."""
        return self.compares or self.prompts is not None or self.interpolate is not None

    @cached_property
    def axes(self) -> tuple[Axis | None, Axis | None]:
        """x and y. Raises InputError for what is none."""
        from sdrt.many.axes import parse_axis

        x, y = (None if text is None else parse_axis(text) for text in (self.x, self.y))
        return x, y

    @property
    def says_prompts(self) -> bool:
        """Whether no other prompt is needed. Raises InputError for a wrong axis."""
        of_axis = any(axis is not None and axis.setting in {"prompt", "blend"} for axis in self.axes)
        return of_axis or self.prompts is not None or self.interpolate is not None

    def pattern(self, output: Path | None) -> Path | None:
        """Names that tell the pictures apart, where the user gave none."""
        if output is None and self.interpolate is not None:
            return Path("{prompt}-{frame:03}.png")
        if output is not None or not self.compares:
            return output
        # a prompt says by itself what is different in it
        named = [
            (f"-{{{name}}}", axis) for name, axis in zip("xy", self.axes, strict=True) if axis is not None
        ]
        values = "".join(text for text, axis in named if axis.setting not in {"prompt", "replace"})
        return Path(f"{{prompt}}{values}.png")

    def sheet_path(self, output: Path | None) -> Path | None:
        """Where the sheet is to be; None if there is to be none."""
        from sdrt.many.output_names import NamePattern

        if self.grid is not None or not self.compares:
            return self.grid
        return Path("grid.png") if output is None else NamePattern(output).folder / "grid.png"

    def asked(self, settings: Mapping[str, Any], output: Path | None) -> list[Asked]:
        """What is to be made: of one prompt, of each line, or of each pair of values.

        Raises InputError if a file or an axis is wrong, or for options that exclude each other.
        """
        from sdrt.many.interpolation import ask_frames
        from sdrt.many.jobs import Asked, ask_cells, ask_lines
        from sdrt.many.output_names import FIELDS, NamePattern
        from sdrt.many.prompt_files import read_prompts

        self._check(settings)
        fields = set() if output is None else {*NamePattern(output).fields}
        if self.prompts is not None:
            asked = ask_lines(read_prompts(self.prompts, fields - {*FIELDS, "line"}), settings)
        elif self.interpolate is not None:
            asked = ask_frames(*self.interpolate, self.frames, settings)
        elif self.compares:
            asked = ask_cells(*self.axes, settings)
        else:
            asked = [Asked(settings=settings)]
        if self.resume and "seed" in fields and any(map(_has_random_seed, asked)):
            raise InputError(
                "{seed} is another in each run; to resume, give --seed or name the pictures otherwise"
            )
        return asked

    def _check(self, settings: Mapping[str, Any]) -> None:
        if self.prompts is not None and self.compares:
            raise InputError(
                "--prompts and axes exclude each other; prompts can be an axis, as in --x prompt=a,b"
            )
        if self.interpolate is not None and (self.prompts is not None or self.compares):
            raise InputError("--interpolate excludes --prompts and axes; leave one out")
        if self.grid_columns is not None and (self.grid is None or self.compares):
            raise InputError("--grid-columns is for --grid without axes; leave it out")
        named = {axis.setting for axis in self.axes if axis is not None}
        if self.resume and self.compares and settings.get("seed") in RANDOM_SEEDS and "seed" not in named:
            raise InputError("all of a comparison has one seed; to resume it, give that with --seed")

    def sheet(self, jobs: Sequence[Job], prompt: str) -> ContactSheet | None:
        """What the pictures are laid out on, if that is asked for."""
        from sdrt.many.contact_sheet import ContactSheet, best_columns

        cell = max(job.request.width for job in jobs), max(job.request.height for job in jobs)
        if self.compares:
            x, y = self.axes
            return ContactSheet(
                len(jobs),
                1 if x is None else len(x.values),
                cell,
                x_labels=() if x is None else x.titles,
                y_labels=() if y is None else y.titles,
                title=prompt,
            )
        if self.grid is None:
            return None
        return ContactSheet(len(jobs), self.grid_columns or best_columns(len(jobs), *cell), cell)


def _has_random_seed(asked: Asked) -> bool:
    return asked.settings.get("seed") in RANDOM_SEEDS


many_options = Section(
    "Many pictures",
    click.option(
        "--prompts",
        type=click.Path(path_type=Path, allow_dash=True),
        metavar="FILE",
        help="In place of PROMPT, many with settings of their own: .txt, .jsonl, .csv; - is standard input.",
    ),
    click.option(
        "--interpolate",
        nargs=2,
        metavar="TEXT TEXT",
        help="From one prompt to another; with --variation-seed from --seed to that one, too.",
    ),
    click.option("--frames", type=int, default=16, metavar="N", help="Of --interpolate, both ends included."),
    click.option(
        "--x",
        metavar="OPTION=VALUES",
        help="Compare values side by side: sampler=ddim,euler or steps=5-20:5 or replace=red,blue.",
    ),
    click.option("--y", metavar="OPTION=VALUES", help="Compare others too, one below another."),
    click.option(
        "--grid",
        type=click.Path(path_type=Path),
        metavar="PNG",
        help="All pictures on one sheet.  [default: grid.png with --x or --y, else none]",
    ),
    click.option(
        "--grid-columns", type=click.IntRange(1), metavar="N", help="Of --grid.  [default: what looks well]"
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Leave out pictures that are there already, made with the same settings.",
    ),
    name="many",
    gathered=ManyOptions,
)
