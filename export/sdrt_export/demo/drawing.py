"""Drawing scenes: shapes as inside-tests on sub-pixels, averaged to anti-aliased coverage."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .scenes import Scene, Thing
from .vocabulary import COLOURS, POSITIONS

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

RESOLUTION: Final = 64
SUBPIXELS: Final = 4

# Radius in pixels, by size, of a thing that is alone and of one in a pair.
ALONE: Final = {"small": 9.5, "medium": 14.5, "large": 21.0}
PAIRED: Final = {"small": 9.0, "medium": 11.5, "large": 14.5}
RADII: Final = {1: ALONE, 2: PAIRED}


def inside(shape: str, x: Floats, y: Floats) -> Bools:
    """Tell which points lie in the shape of radius 1 around the origin; y grows downwards."""
    if shape == "circle":
        return x**2 + y**2 < 1
    if shape == "ring":
        distance = x**2 + y**2
        return (distance < 1) & (distance > 0.55**2)
    if shape == "square":
        return np.maximum(abs(x), abs(y)) < 0.88
    if shape == "triangle":
        # Corners (0, -1) and (+-1, 0.75).
        return (y < 0.75) & (abs(x) * 1.75 < y + 1)
    if shape == "cross":
        near, far = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
        return (near < 0.32) & (far < 1)
    if shape == "star":
        return _inside_star(x, y)
    raise ValueError(f"unknown shape {shape!r}")


def _inside_star(x: Floats, y: Floats) -> Bools:
    # Fold the plane onto half an arm: the edge runs from the tip (angle 0) to the notch (36 degrees).
    tip, notch = 1.08, 0.46
    sector = 2 * np.pi / 5
    angle = np.arctan2(x, -y)
    folded = abs(angle - sector * np.round(angle / sector))
    radius = np.hypot(x, y)
    along, across = radius * np.cos(folded), radius * np.sin(folded)
    notch_along, notch_across = notch * np.cos(sector / 2), notch * np.sin(sector / 2)
    edge: Bools = (tip - along) * notch_across > across * (tip - notch_along)
    return edge


def coverage(shape: str, x: float, y: float, radius: float) -> Floats:
    """How much of each pixel the shape covers: [64, 64], 0 to 1. Centre and radius are in pixels."""
    ticks = (np.arange(RESOLUTION * SUBPIXELS, dtype=np.float32) + 0.5) / SUBPIXELS
    columns, rows = ((ticks - x) / radius)[None, :], ((ticks - y) / radius)[:, None]
    hit = inside(shape, *np.broadcast_arrays(columns, rows))
    blocks = hit.reshape(RESOLUTION, SUBPIXELS, RESOLUTION, SUBPIXELS)
    alpha: Floats = blocks.mean(axis=(1, 3), dtype=np.float32)
    return alpha


def place(thing: Thing, things: int) -> tuple[float, float, float]:
    """Centre x, centre y and radius, in pixels, of a thing in a scene of that many things."""
    radius = RADII[things][thing.size]
    # Far out, but never over the edge; the two things of a pair share the picture in halves.
    distance = 16.0 if things == 2 else min(17.0, RESOLUTION / 2 - 1 - radius)
    dx, dy = POSITIONS[thing.position]
    return RESOLUTION / 2 + dx * distance, RESOLUTION / 2 + dy * distance, radius


def draw(scene: Scene, rng: np.random.Generator | None = None) -> Bytes:
    """Draw a scene: [64, 64, 3]. With `rng`, centres move by up to a pixel and radii by up to 4 percent."""
    picture = np.empty((RESOLUTION, RESOLUTION, 3), np.float32)
    picture[:] = COLOURS[scene.background]
    for thing in scene.things:
        x, y, radius = place(thing, len(scene.things))
        if rng is not None:
            x, y = x + rng.uniform(-1, 1), y + rng.uniform(-1, 1)
            radius *= rng.uniform(0.96, 1.0)
        alpha = coverage(thing.shape, x, y, radius)[..., None]
        picture += alpha * (np.array(COLOURS[thing.colour], np.float32) - picture)
    return np.round(picture).astype(np.uint8)
