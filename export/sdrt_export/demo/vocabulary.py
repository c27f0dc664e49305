"""What the demo model can draw, and the words it knows for it."""

from __future__ import annotations

from typing import Final

# RGB, 0-255. The six hues lie at least 25 degrees apart, so that a hue tells the colour without doubt.
COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (215, 30, 35),
    "orange": (255, 120, 0),
    "yellow": (255, 230, 40),
    "green": (30, 155, 70),
    "blue": (35, 75, 215),
    "purple": (135, 45, 175),
    "white": (250, 250, 250),
    "black": (15, 15, 15),
}

SHAPES: Final = ("circle", "square", "triangle", "star", "ring", "cross")
SIZES: Final = ("small", "medium", "large")

# Position -> direction from the centre of the picture; x grows to the right, y grows downwards.
POSITIONS: Final[dict[str, tuple[int, int]]] = {
    "centre": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
    "top left": (-1, -1),
    "top right": (1, -1),
    "bottom left": (-1, 1),
    "bottom right": (1, 1),
}

COLOUR_WORDS: Final[dict[str, tuple[str, ...]]] = {colour: (colour,) for colour in COLOURS} | {
    "purple": ("purple", "purple", "violet"),
}

SHAPE_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "circle": ("circle", "circle", "disc", "disk", "dot"),
    "square": ("square", "square", "square", "box"),
    "triangle": ("triangle",),
    "star": ("star", "star", "five-pointed star"),
    "ring": ("ring", "ring", "ring", "hoop"),
    "cross": ("cross", "cross", "plus sign"),
}

SIZE_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "small": ("small", "small", "tiny", "little"),
    "medium": ("medium", "medium-sized"),
    "large": ("large", "large", "big", "huge"),
}

CORNER_WORDS: Final[dict[str, tuple[str, ...]]] = {
    corner: (
        f"in the {corner}",
        f"at the {corner}",
        f"in the {corner} corner",
        f"in the {corner.replace('top', 'upper').replace('bottom', 'lower')}",
    )
    for corner, (dx, dy) in POSITIONS.items()
    if dx and dy
}

POSITION_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "centre": (
        "in the centre",
        "in the center",
        "in the middle",
        "at the centre",
        "at the center",
        "centered",
    ),
    "left": ("on the left", "on the left", "at the left", "on the left side", "to the left"),
    "right": ("on the right", "on the right", "at the right", "on the right side", "to the right"),
    "top": ("at the top", "at the top", "on the top", "at the upper edge", "on top"),
    "bottom": ("at the bottom", "at the bottom", "on the bottom", "at the lower edge"),
} | CORNER_WORDS
