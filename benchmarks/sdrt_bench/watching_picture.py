"""The animation of the documentation: pictures of several prompts, side by side, as they come about.

python -m sdrt_bench.watching_picture docs/watching.gif        also: make pictures
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdrt.animation import save_animation
from sdrt.pictures import Progress
from sdrt.pipeline import Pipeline
from sdrt.request import resolve_request

PROMPTS = (
    "a large red circle on a blue background",
    "small green star on the left, white background",
    "a purple cross on yellow",
    "an orange square at the top, black background",
)
SCALE = 2


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--seed", default=1, show_default=True)
def main(output: Path, seed: int) -> None:
    """Draw the predictions of a run, a frame for each step, and hold the pictures at its end."""
    frames: list[NDArray[np.uint8]] = []

    def look(at: Progress) -> None:
        if 0 < at.done < at.evaluations:
            frames.append(_side_by_side(at.predictions()))

    with Pipeline.load() as pipeline:
        requests = [resolve_request(pipeline.manifest, prompt, seed=seed) for prompt in PROMPTS]
        pictures = [picture.pixels for picture in pipeline.run(requests, look)]
    output.unlink(missing_ok=True)
    save_animation([*frames, _side_by_side(pictures)], output)


def _side_by_side(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    image = Image.fromarray(np.concatenate(pictures, axis=1))
    size = image.width * SCALE, image.height * SCALE
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


if __name__ == "__main__":
    main()
