"""A picture file as a person sees it: upright, its first frame, eight bits for each channel.

Pillow would try a file with forty readers, one of which starts Ghostscript. Six formats are read here, each
known by its first bytes whatever the file is called, and nothing is decoded before its size was looked at.
"""

from __future__ import annotations

import contextlib
import io
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sdrt.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


READABLE = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
"""Formats by Pillow's names."""
MAX_SIDE = 32_768
"""Pixels."""
MAX_PIXELS = 2**26
"""Of a picture: 8192 x 8192, and what cameras of 60 megapixels make."""
# A flat picture compresses to a thousandth, so 100 kB could ask for gigabytes. Beyond this many pixels a file
# must have a byte for each 256 of them. Masks, in black and white or grey, take little memory in any case.
_MAX_FLAT_PIXELS = 2**24
_PIXELS_PER_BYTE = 256
_START_OF_SCAN = b"\xff\xda"  # within data of a scan, 0xff is followed by zero
_MAX_SCANS = 64  # progressive files have about ten, with previews and second pictures inside a few more
_ONE_BYTE_MODES = ("1", "L")
_TILE_TAGS = (322, 323)  # of TIFF: the memory for a tile is taken whatever the picture's size


@contextlib.contextmanager
def loaded_image(path: Path) -> Iterator[Image.Image]:
    """The first picture of a file, as it is stored.

    Raises InputError if the file is absent, damaged, in none of the formats `READABLE`, or too large.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"cannot read {path} as a picture: it is no plain file")
        with warnings.catch_warnings():
            # Pillow warns of EXIF data it cannot read; then there are none
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=READABLE) as image:
                _check_size(image, path)
                _check_scans(image, path)
                image.load()
                yield image
    except FileNotFoundError:
        raise InputError(f"there is no picture {path}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(f"{path} has more than {MAX_PIXELS} pixels; scale it down") from None
    except UnidentifiedImageError:
        raise InputError(f"cannot read {path} as a picture: it is none of {', '.join(READABLE)}") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's readers raise for damaged files
        said = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {path} as a picture: {said}") from None


@contextlib.contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """The same, turned as its EXIF data say; L, RGB, P or one of these with alpha."""
    from PIL import ImageOps

    with loaded_image(path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        yield _eight_bits(image, path)


def _check_size(image: Image.Image, path: Path) -> None:
    """Raise InputError for a picture that is not worth the memory; nothing of it is decoded yet."""
    width, height = image.size
    tile = [_number(getattr(image, "tag_v2", {}).get(tag)) for tag in _TILE_TAGS]
    if max(width, height, *tile) > MAX_SIDE:
        raise InputError(f"{path} has {width} x {height} pixels, a side may have {MAX_SIDE}; scale it down")
    pixels = max(width * height, tile[0] * tile[1])
    if pixels > MAX_PIXELS:
        raise InputError(f"{path} has {width} x {height} pixels, the limit is {MAX_PIXELS}; scale it down")
    size = path.stat().st_size
    if pixels > max(_MAX_FLAT_PIXELS, _PIXELS_PER_BYTE * size) and image.mode not in _ONE_BYTE_MODES:
        raise InputError(f"{path} has {width} x {height} pixels in {size} bytes; scale it down")


def _check_scans(image: Image.Image, path: Path) -> None:
    """Raise InputError for a JPEG that is decoded over and over: each scan of 33 bytes costs a whole pass."""
    if image.format in ("JPEG", "MPO"):
        scans = path.read_bytes().count(_START_OF_SCAN)
        if scans > _MAX_SCANS:
            raise InputError(f"{path} has {scans} scans, the limit is {_MAX_SCANS}; save it again")


def _number(value: object) -> int:
    """A tag of TIFF, which may be of any type."""
    return value if isinstance(value, int) else 0


def on_background(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """RGB, with `background` where the image is transparent."""
    from PIL import Image

    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
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
