"""Looking at a picture without a learned judge: what is on it, by palette and by geometry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .drawing import RADII, RESOLUTION, Bools, Bytes, Floats, coverage
from .vocabulary import COLOURS, SHAPES

# Distances in RGB. The closest two colours of the palette, blue and purple, are 105 apart.
DIFFERENT: Final = 45.0
# Below this difference of the largest and the smallest channel, a colour counts as white or black.
CHROMA: Final = 70.0
# The smallest thing that is ever drawn, a small star, covers 109 pixels.
SMALLEST_AREA: Final = 35
# Overlap with the best template (intersection over union) below which a thing has no shape at all.
RECOGNISABLE: Final = 0.75


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A thing found in a picture. Centre and radius in pixels, from the best-matching template."""

    colour: str
    shape: str | None
    overlap: float
    x: float
    y: float
    radius: float

    def size(self, things: int) -> str:
        """The size word whose radius is nearest, in a picture of that many things."""
        radii = RADII[things]
        return min(radii, key=lambda name: abs(radii[name] - self.radius))


@dataclass(frozen=True, kw_only=True)
class View:
    """All that was found in a picture."""

    background: str
    things: tuple[Seen, ...]


def nearest_colour(rgb: Floats) -> str:
    """The palette's colour of an RGB triple: the nearest hue, or white or black where there is no hue."""
    if np.ptp(rgb) < CHROMA:
        return "white" if rgb.mean() > 127 else "black"
    hues = {
        name: _hue(np.array(value, np.float32)) for name, value in COLOURS.items() if np.ptp(value) > CHROMA
    }
    hue = _hue(rgb)
    return min(hues, key=lambda name: abs((hues[name] - hue + 180) % 360 - 180))


def _hue(rgb: Floats) -> float:
    """Degrees on the colour circle, red at 0, green at 120."""
    red, green, blue = (float(channel) for channel in rgb)
    return float(np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue))) % 360


@cache
def _template(shape: str) -> tuple[float, float]:
    """Area and vertical offset of the centroid, of the shape of radius 1."""
    radius = 24.0
    alpha = coverage(shape, RESOLUTION / 2, RESOLUTION / 2, radius)
    rows = np.arange(RESOLUTION) + 0.5
    centroid = float((alpha.sum(axis=1) * rows).sum() / alpha.sum())
    return float(alpha.sum()) / radius**2, (centroid - RESOLUTION / 2) / radius


def match_shape(alpha: Floats) -> tuple[str, float, float, float, float]:
    """Fit every shape to a coverage mask by area and centroid: best shape, overlap, centre x, y, radius."""
    ticks = np.arange(RESOLUTION) + 0.5
    area = float(alpha.sum())
    x = float((alpha.sum(axis=0) * ticks).sum()) / area
    centroid = float((alpha.sum(axis=1) * ticks).sum()) / area
    fits = []
    for shape in SHAPES:
        unit_area, offset = _template(shape)
        radius = float(np.sqrt(area / unit_area))
        y = centroid - offset * radius
        template = coverage(shape, x, y, radius)
        overlap = np.minimum(alpha, template).sum() / np.maximum(alpha, template).sum()
        fits.append((shape, float(overlap), x, y, radius))
    return max(fits, key=lambda fit: fit[1])


def _around(image: NDArray[Any]) -> NDArray[Any]:
    """The image and its four shifts by a pixel: [5, H, W], zero from beyond the edge."""
    padded = np.pad(image, 1)
    shifts = padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    return np.stack(shifts)


def connected_regions(mask: Bools) -> list[Bools]:
    """Split a mask into its parts that touch along pixel edges."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        # The largest label of a part floods it; a part is never longer than the picture has pixels.
        flooded = np.where(mask, _around(labels).max(axis=0), 0)
        if np.array_equal(flooded, labels):
            return [labels == label for label in np.unique(labels) if label]
        labels = flooded


def look(picture: Bytes) -> View:
    """Find the background and the things of a picture [64, 64, 3]."""
    pixels = picture.astype(np.float32)
    frame = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = np.median(frame, axis=0).astype(np.float32)
    foreground = np.linalg.norm(pixels - background, axis=2) > DIFFERENT
    regions = [region for region in connected_regions(foreground) if region.sum() >= SMALLEST_AREA]
    things = [_see(pixels, background, region) for region in regions]
    return View(background=nearest_colour(background), things=tuple(things))


def _see(pixels: Floats, background: Floats, region: Bools) -> Seen:
    core = _around(region).min(axis=0)
    colour = np.median(pixels[core if core.sum() >= 8 else region], axis=0).astype(np.float32)
    direction = colour - background
    alpha = ((pixels - background) @ direction / (direction @ direction)).clip(0, 1)
    alpha *= _around(region).max(axis=0)
    shape, overlap, x, y, radius = match_shape(alpha)
    return Seen(
        colour=nearest_colour(colour),
        shape=shape if overlap >= RECOGNISABLE else None,
        overlap=overlap,
        x=x,
        y=y,
        radius=radius,
    )
