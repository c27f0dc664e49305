"""The picture of docs/samplers.md: one prompt and seed with every sampler, in few, some and many steps.

python -m sdrt_bench.sampler_sheet docs/samplers.png        also: make pictures
"""

from __future__ import annotations

from pathlib import Path

import click
from PIL import Image, ImageDraw, ImageFont

from sdrt.pipeline import Pipeline
from sdrt.samplers import SAMPLERS, Sampler

PROMPT = "a red circle and a blue square on white"
STEPS = (5, 10, 20)
COLUMNS = 4
CAPTION, MARGIN, GAP = 20, 14, 3  # pixels


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("-m", "--model", type=click.Path(path_type=Path), help="Bundle.  [default: demo]")
@click.option("--seed", default=1, show_default=True)
def main(output: Path, model: Path | None, seed: int) -> None:
    """Draw a sheet: a cell for each sampler the model can use, a picture for each number of steps."""
    pipeline = Pipeline.load(model)
    prediction = pipeline.manifest.schedule.prediction_type
    samplers = [sampler for sampler in SAMPLERS.values() if prediction in sampler.predictions]
    strips = [_strip(pipeline, sampler, seed) for sampler in samplers]
    width, height = strips[0].size
    cell = (width + MARGIN, height + CAPTION + MARGIN)
    rows = -(-len(samplers) // COLUMNS)
    top = CAPTION + MARGIN
    sheet = Image.new("RGB", (COLUMNS * cell[0] + MARGIN, rows * cell[1] + top + MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    steps = ", ".join(map(str, STEPS[:-1])) + f" and {STEPS[-1]}"
    draw.text((MARGIN, MARGIN - 4), f'"{PROMPT}", seed {seed}: {steps} steps', fill="black", font=font)
    for i, (sampler, strip) in enumerate(zip(samplers, strips, strict=True)):
        left, upper = MARGIN + i % COLUMNS * cell[0], top + i // COLUMNS * cell[1]
        draw.text((left, upper), sampler.title, fill="black", font=font)
        sheet.paste(strip, (left, upper + CAPTION))
    sheet.save(output, optimize=True)


def _strip(pipeline: Pipeline, sampler: Sampler, seed: int) -> Image.Image:
    """The pictures of one sampler side by side, few steps first."""
    pictures = [
        Image.fromarray(pipeline.generate(PROMPT, sampler=sampler.name, steps=steps, seed=seed)[0].pixels)
        for steps in STEPS
    ]
    width, height = pictures[0].size
    strip = Image.new("RGB", (len(pictures) * (width + GAP) - GAP + 2, height + 2), "#bbbbbb")
    for i, picture in enumerate(pictures):
        strip.paste(picture, (1 + i * (width + GAP), 1))
    return strip


if __name__ == "__main__":
    main()
