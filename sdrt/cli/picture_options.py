"""The picture that `sdrt generate` starts from, or that its model is shown."""

from __future__ import annotations

from pathlib import Path

import click

from sdrt.cli.sections import Section

picture_options = Section(
    "From a picture",
    click.option(
        "--init-image",
        type=click.Path(path_type=Path),
        help="Picture to change, for inpainting and InstructPix2Pix models.",
    ),
    click.option(
        "--mask", type=click.Path(path_type=Path), help="For inpainting models: what to paint is white."
    ),
    click.option(
        "--image-guidance",
        type=float,
        help="How closely InstructPix2Pix keeps to the picture.  [default: 1.5]",
    ),
)
