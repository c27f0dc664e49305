"""Pictures that a run is given: brought to its size, with what is to be painted anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from sdrt.errors import InputError
from sdrt.image_reading import on_background, opened_image

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["crop", "pad", "stretch"]
Alpha = Literal["hole", "flatten"]
Sides = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

_HALF = 128  # of 255: a mask is white, and a picture opaque, from here on
_SLACK = 8  # pixels, the factor of a VAE: fewer are cut off, for all others to stay as they are
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class SourceSize:
    """What is known of a picture before it is brought to size: pixels, and whether some are transparent."""

    width: int
    height: int
    has_hole: bool


@dataclass(frozen=True, kw_only=True)
class SourceImage:
    """A picture at the size of a run.

    pixels: [H, W, 3] uint8 RGB; what is not known of it is filled with the colours around.
    painted: [H, W] bool, what is to be painted anew; None if the whole picture is to be changed.
    """

    pixels: NDArray[np.uint8]
    painted: NDArray[np.bool_] | None

    def values(self) -> NDArray[np.float32]:
        """As the VAE takes it: [3, H, W] in -1..1."""
        return np.moveaxis(self.pixels.astype(np.float32) / 127.5 - 1, -1, 0)

    def paint_into(self, made: NDArray[np.uint8], blur: float) -> NDArray[np.uint8]:
        """`made` [H, W, 3] uint8 where it is painted, the picture elsewhere.

        blur: standard deviation, in pixels, of the blend between them; it ends three of them from the edge.
        """
        if self.painted is None:
            return made
        share = _blurred(self.painted, blur)[..., None].astype(np.float32) / 255
        mixed = self.pixels + share * (made.astype(np.float32) - self.pixels)
        return np.asarray(np.rint(mixed).astype(np.uint8))


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a picture lies in one of `size` (width, height), with `outpaint` pixels around it."""

    size: tuple[int, int]
    fit: Fit = "crop"
    outpaint: Sides = (0, 0, 0, 0)

    def __call__(self, image: Image.Image) -> Image.Image:
        """Zero in all channels where the image is not."""
        from PIL import Image

        left, top, right, bottom = self.outpaint
        inner = (self.size[0] - left - right, self.size[1] - top - bottom)
        fitted = _fitted(image, inner, self.fit)
        placed = Image.new(image.mode, self.size)
        placed.paste(fitted, (left + (inner[0] - fitted.width) // 2, top + (inner[1] - fitted.height) // 2))
        return placed


def source_size(path: Path) -> SourceSize:
    """Look at a picture. Raises InputError as `opened_image` does."""
    with opened_image(path) as image:
        return SourceSize(width=image.width, height=image.height, has_hole=_has_hole(image))


def read_source(
    path: Path, place: Placement, *, mask: Path | None = None, alpha: Alpha = "hole"
) -> SourceImage:
    """Read a picture for a run.

    mask: what to paint anew is white; scaled to the picture's own size before both are placed. alpha: whether
    what is transparent is to be painted too, or taken for white.
    Raises InputError as `opened_image` does, and for a picture of which nothing is to be seen.
    """
    from PIL import Image

    with opened_image(path) as image:
        has_hole = alpha == "hole" and _has_hole(image)
        picture = image.convert("RGBA") if has_hole else _opaque(image, _WHITE)
    placed = place(picture)
    opacity = placed.getchannel("A") if has_hole else place(Image.new("L", picture.size, 255))
    known = np.asarray(opacity) >= _HALF
    if not known.any():
        raise InputError(f"{path} is transparent all over; give a picture of which something is to be seen")
    pixels = _filled(np.asarray(placed.convert("RGB")), known)
    if mask is not None:
        white = np.asarray(place(_white(mask, picture.size))) >= _HALF
        return SourceImage(pixels=pixels, painted=white | ~known)
    return SourceImage(pixels=pixels, painted=~known if has_hole or any(place.outpaint) else None)


def _has_hole(image: Image.Image) -> bool:
    return image.has_transparency_data and np.asarray(image.convert("RGBA").getchannel("A")).min() < _HALF


def _opaque(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """L or RGB, with `background` where the image is transparent. Grey stays grey, a third of the memory."""
    grey = image.mode in ("1", "L") and not image.has_transparency_data
    return image.convert("L") if grey else on_background(image, background)


def _white(path: Path, size: tuple[int, int]) -> Image.Image:
    """A mask in shades of grey, of a size (width, height); what is transparent is black."""
    from PIL import Image

    with opened_image(path) as image:
        grey = _opaque(image, _BLACK).convert("L")
    return grey if grey.size == size else grey.resize(size, Image.Resampling.LANCZOS)


def _fitted(image: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """An image at another size; smaller along one side with `pad`."""
    from PIL import Image, ImageOps

    if image.size == size:
        return image
    if fit == "stretch":
        return image.resize(size, Image.Resampling.LANCZOS)
    if fit == "pad":
        return ImageOps.contain(image, size, Image.Resampling.LANCZOS)
    left, top = (own - wanted for own, wanted in zip(image.size, size, strict=True))
    if 0 <= left < _SLACK and 0 <= top < _SLACK:
        return image.crop((left // 2, top // 2, left // 2 + size[0], top // 2 + size[1]))
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def _filled(pixels: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """What is not known gets the colours around it: those of the same picture at half the size, and so on."""
    from PIL import Image

    if known.all():
        return pixels
    height, width = known.shape
    even = np.zeros((height + height % 2, width + width % 2, 4), np.float32)
    even[:height, :width] = np.dstack([pixels * known[..., None], known])
    quarters = even.reshape(len(even) // 2, 2, -1, 2, 4).sum(axis=(1, 3))
    count = quarters[..., 3]
    half = np.rint(quarters[..., :3] / np.maximum(count, 1)[..., None]).astype(np.uint8)
    coarse = Image.fromarray(_filled(half, count > 0))
    smooth = coarse.resize((even.shape[1], even.shape[0]), Image.Resampling.BILINEAR)
    return np.where(known[..., None], pixels, np.asarray(smooth)[:height, :width])


def _blurred(mask: NDArray[np.bool_], blur: float) -> NDArray[np.uint8]:
    """Shades of grey; white is what is wholly painted."""
    from PIL import Image, ImageFilter

    white = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
    return np.asarray(white.filter(ImageFilter.GaussianBlur(blur)) if blur else white)
