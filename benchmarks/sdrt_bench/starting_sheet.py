"""The picture of docs/pictures.md: what runs make of one picture to begin with.

python -m sdrt_bench.starting_sheet docs/pictures.png        also: make pictures
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from PIL import Image, ImageDraw, ImageOps

from sdrt.many.contact_sheet import ContactSheet
from sdrt.pipeline import Pipeline
from sdrt.settings import Settings

FIRST = "a red circle on the left on a blue background"
STRENGTHS = (0.1, 0.4, 0.8)
ENLARGED = 2


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("-m", "--model", type=click.Path(path_type=Path), help="Bundle.  [default: demo]")
@click.option("--seed", default=1, show_default=True)
def main(output: Path, model: Path | None, seed: int) -> None:
    """A sheet: the picture, image to image by strength, a mask and what it lets paint, more around."""
    pipeline = Pipeline.load(model)
    (first,) = pipeline.generate(FIRST, seed=seed)
    height, width, _ = first.pixels.shape
    with TemporaryDirectory() as folder:
        picture, mask = first.save(Path(folder) / "picture.png"), Path(folder) / "mask.png"
        white = Image.new("L", (width, height))
        ImageDraw.Draw(white).rectangle((width // 2, 0, width, height), fill=255)
        white.save(mask)

        def made(prompt: str, **settings: object) -> Image.Image:
            asked = Settings(seed=seed + 1, init_image=picture, **settings)  # type: ignore[typeddict-item]
            return Image.fromarray(pipeline.generate(prompt, **asked)[0].pixels)

        green = "a green circle on the left on a blue background"
        cells = {
            "the picture": Image.fromarray(first.pixels),
            **{f"green, strength {x:g}": made(green, strength=x) for x in STRENGTHS},
            "a mask": white.convert("RGB"),
            "a yellow star in it": made("a red circle and a yellow star on a blue background", mask=mask),
            "more at the right": made("blue background", outpaint=(0, 0, width // 2, 0)),
        }
    size = (ENLARGED * width, ENLARGED * height)
    sheet = ContactSheet(len(cells), len(cells), size, x_labels=tuple(cells))
    for index, image in enumerate(cells.values()):
        sheet.place(index, np.asarray(ImageOps.contain(image, size, Image.Resampling.LANCZOS)))
    sheet.image.save(output, optimize=True)


if __name__ == "__main__":
    main()
