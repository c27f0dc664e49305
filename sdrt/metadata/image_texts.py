"""The texts that a picture file has beside its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sdrt.image_reading import loaded_image
from sdrt.metadata.exif import read_exif
from sdrt.metadata.keywords import KEYWORDS, PARAMETERS
from sdrt.metadata.others import program_of

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class PictureTexts:
    """Width and height, and the texts by the keywords that PNG has for them.

    pixels: [H, W, 3] uint8, as they were written; None where the format may have changed them.
    program: who wrote it, where that is none whose texts are read; None if nothing tells.
    """

    size: tuple[int, int]
    texts: Mapping[str, str]
    pixels: NDArray[np.uint8] | None
    program: str | None = None


def read_texts(path: Path) -> PictureTexts:
    """Read them. Raises InputError if it is no picture, damaged, or too large to be one."""
    with loaded_image(path) as image:  # loaded, as PNG's texts may stand behind the pixels
        known = {key: image.info[key] for key in KEYWORDS if isinstance(image.info.get(key), str)}
        texts = {**_gif_comment(image), **read_exif(image), **known}
        # an animation begins with another picture than its texts are of; to count the frames of other formats
        # than PNG would be to read them all
        lossless = image.format == "PNG" and image.mode == "RGB" and getattr(image, "n_frames", 1) == 1
        pixels = np.asarray(image) if lossless else None
        return PictureTexts(
            size=image.size, texts=texts, pixels=pixels, program=program_of(dict(image.info) | texts)
        )


def _gif_comment(image: Image.Image) -> dict[str, str]:
    """What `sdrt generate --gif` writes of its picture; a comment of another kind is nothing."""
    comment = image.info.get("comment") if image.format == "GIF" else None
    text = comment.decode(errors="replace") if isinstance(comment, bytes) else ""
    return {PARAMETERS: text} if text.rpartition("\n")[2].startswith("Steps: ") else {}
