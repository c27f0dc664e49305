"""The picture that `sdrt generate` begins with, or that its model is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sdrt.cli.sections import Section

_SIDES = ("left", "top", "right", "bottom")


class _Sides(click.ParamType[Any]):
    """Pixels on all sides, or on some: 32, or left=32,top=16."""

    name = "PIXELS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        sides = {}
        try:
            if "=" not in value:
                return (int(value),) * 4
            for one in value.split(","):
                side, pixels = one.split("=")
                sides[side.strip()] = int(pixels)
        except ValueError:
            self.fail(f"{value!r} is not like 32 or left=32,top=16", param, ctx)
        for side in sides:
            if side not in _SIDES:
                self.fail(f"{side!r} is no side; there are {', '.join(_SIDES)}", param, ctx)
        return tuple(sides.get(side, 0) for side in _SIDES)


picture_options = Section(
    "From a picture",
    click.option(
        "--init-image",
        type=click.Path(path_type=Path),
        help="Picture to begin with, or that an inpainting or InstructPix2Pix model is shown.",
    ),
    click.option(
        "--strength",
        type=float,
        help="The part of the steps that is taken: 0 keeps the picture, 1 nothing of it.  "
        "[default: 0.8; 1 where something is painted anew]",
    ),
    click.option("--start-step", type=int, help="Begin at this step, from 0: another way to say --strength."),
    click.option(
        "--fit",
        type=click.Choice(["crop", "pad", "stretch"]),
        default="crop",
        help="How the picture gets to the size of -W and -H.  [size by default: its own]",
    ),
    click.option(
        "--mask",
        type=click.Path(path_type=Path),
        help="What is white in it is painted anew; the rest stays as it is, to the pixel.",
    ),
    click.option(
        "--mask-blur",
        type=float,
        default=4.0,
        metavar="PIXELS",
        help="How softly old and new meet at the mask's edge.",
    ),
    click.option(
        "--alpha",
        type=click.Choice(["hole", "flatten"]),
        default="hole",
        help="What is transparent in the picture is painted anew (hole) or white (flatten).",
    ),
    click.option(
        "--outpaint",
        type=_Sides(),
        default=0,
        show_default=False,
        help="Paint more around the picture: 32 on all sides, or left=32,top=16.",
    ),
    click.option(
        "--image-guidance",
        type=float,
        help="How closely InstructPix2Pix keeps to the picture.  [default: 1.5]",
    ),
)
