"""Any picture file as a person sees it: upright, its first frame, eight bits for each channel."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sdrt.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


@contextlib.contextmanager
def loaded_image(path: Path) -> Iterator[Image.Image]:
    """The first picture of a file, as it is stored.

    Raises InputError if the file is absent, no picture, damaged, or too large to be one.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow warns of EXIF data it cannot read; then there are none
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                yield image
    except FileNotFoundError:
        raise InputError(f"there is no picture {path}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(f"{path} has more than {Image.MAX_IMAGE_PIXELS} pixels; scale it down") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's readers raise for damaged files
        raise InputError(f"cannot read {path} as a picture: {error}") from None


@contextlib.contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """The same, turned as its EXIF data say; L, RGB, P or one of these with alpha."""
    from PIL import ImageOps

    with loaded_image(path) as image:
        yield _eight_bits(ImageOps.exif_transpose(image), path)


def on_background(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """RGB, with `background` where the image is transparent."""
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    behind = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Pillow clips sixteen bits where they should be scaled, and takes inks for colours."""
    from PIL import Image

    if image.mode == "F":
        raise InputError(f"{path} has floating-point pixels; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float32) / 257
        return Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8))
    return _colours_of_inks(image) if image.mode == "CMYK" else image


def _colours_of_inks(image: Image.Image) -> Image.Image:
    """CMYK by the profile that the file brings along, if that is sound."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            colours = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, inks, colours, outputMode="RGB")
            if converted is not None:
                return converted
    return image.convert("RGB")
