"""Pictures that a model is shown: read from disk, turned upright, brought to size."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sdrt.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

_HALF = 128  # of 255: a mask is white from here on


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, as the picture is looked at. Raises InputError as `read_image` does."""
    with _opened(path) as image:
        return image.size


def read_image(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    """RGB pixels [height, width, 3], scaled with Lanczos' filter if the picture has another size.

    Raises InputError if the file is absent, no picture, damaged, or too large to be one.
    """
    with _opened(path) as image:
        return np.asarray(_scaled(image.convert("RGB"), width, height))


def read_mask(path: Path, width: int, height: int) -> NDArray[np.bool_]:
    """Where a mask is white: [height, width]. Raises InputError as `read_image` does."""
    with _opened(path) as image:
        return np.asarray(_scaled(image.convert("L"), width, height)) >= _HALF


def _scaled(image: Image.Image, width: int, height: int) -> Image.Image:
    from PIL import Image

    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise InputError(f"there is no picture {path}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(f"{path} has more than {Image.MAX_IMAGE_PIXELS} pixels; scale it down") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's readers raise for damaged files
        raise InputError(f"cannot read {path} as a picture: {error}") from None
