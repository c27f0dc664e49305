"""The pictures of the documentation.

python -m sdrt_bench.pictures docs/demo.png        also: make pictures
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import click
from PIL import Image, ImageDraw, ImageFont

from sdrt.pipeline import Pipeline

PROMPTS = (
    "a large red circle on a blue background",
    "small green star on the left, white background",
    "a purple cross on yellow",
    "big white ring on a red background",
    "an orange square at the top, black background",
    "a yellow triangle on the right on a purple background",
    "a red circle and a blue square on white",
    "a green star and a white ring on black",
)
SCALE = 3
COLUMNS = 4
CAPTION = 44  # pixels under each picture
MARGIN = 12


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("-m", "--model", type=click.Path(path_type=Path), help="Bundle.  [default: demo]")
@click.option("--seed", default=1, show_default=True)
def main(output: Path, model: Path | None, seed: int) -> None:
    """Draw a sheet of captioned pictures, one for each of the documentation's prompts, with one seed."""
    pipeline = Pipeline.load(model)
    pictures = [pipeline.generate(prompt, seed=seed)[0].pixels for prompt in PROMPTS]
    height, width = (side * SCALE for side in pictures[0].shape[:2])
    cell = (width + MARGIN, height + CAPTION + MARGIN)
    rows = -(-len(PROMPTS) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * cell[0] + MARGIN, rows * cell[1] + MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, (prompt, pixels) in enumerate(zip(PROMPTS, pictures, strict=True)):
        left, top = MARGIN + i % COLUMNS * cell[0], MARGIN + i // COLUMNS * cell[1]
        enlarged = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(enlarged, (left, top))
        draw.rectangle((left - 1, top - 1, left + width, top + height), outline="#bbbbbb")
        draw.text((left, top + height + 4), "\n".join(textwrap.wrap(prompt, 28)), fill="black", font=font)
    sheet.save(output, optimize=True)


if __name__ == "__main__":
    main()
