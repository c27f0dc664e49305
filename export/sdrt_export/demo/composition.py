"""Two more things to ask of a bundle: prompts that AND joins, and drawings that take another colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice, permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from PIL import Image

from sdrt import Pipeline

from .drawing import Bytes, draw
from .judge import View, look
from .scenes import Scene, Thing
from .vocabulary import COLOURS, SHAPES

Joined = tuple[Thing, Thing]
"""What is to be in one picture; captions say neither where nor how large."""

RED_AND_BLUE: Final[Joined] = (
    Thing(colour="red", shape="circle"),
    Thing(colour="blue", shape="square"),
)
STRENGTHS: Final = (0.5, 0.6, 0.7, 0.8)
# A thing that was painted anew is where it was if its centre moved by less, in pixels.
MOVED: Final = 5.0
_PLACES: Final = ("centre", "left", "right", "top", "bottom")
# On the white background that a caption without one means.
_ON_WHITE: Final = tuple(colour for colour in COLOURS if colour != "white")


@dataclass(frozen=True, kw_only=True)
class Recolouring:
    """A drawing of one thing, and the same thing in the colour that it is to take."""

    drawn: Thing
    wanted: Thing
    seed: int


def caption_of(thing: Thing) -> str:
    """Colour and shape alone: "an orange star"."""
    return f"{'an' if thing.colour[0] in 'aeiou' else 'a'} {thing.colour} {thing.shape}"


def other_pairs(count: int = 10, seed: int = 3) -> list[Joined]:
    """Things of two colours and two shapes, chosen at random."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        colours = rng.choice(_ON_WHITE, 2, replace=False).tolist()
        shapes = rng.choice(SHAPES, 2, replace=False).tolist()
        first, second = (
            Thing(colour=colour, shape=shape) for colour, shape in zip(colours, shapes, strict=True)
        )
        pairs.append((first, second))
    return pairs


def recolourings(count: int = 60, seed: int = 9) -> list[Recolouring]:
    """Things in the centre and at the four sides in turn, each to take another colour of the palette."""
    rng = np.random.default_rng(seed)
    changes = list(permutations([colour for colour in _ON_WHITE if colour != "black"], 2))
    made = []
    for index, place in enumerate(islice(cycle(_PLACES), count)):
        before, after = changes[rng.integers(len(changes))]
        drawn = Thing(colour=before, shape=SHAPES[rng.integers(len(SHAPES))], position=place)
        made.append(Recolouring(drawn=drawn, wanted=replace(drawn, colour=after), seed=index))
    return made


def shows_both(things: Joined, view: View) -> bool:
    """Whether both are there, each with its colour and shape."""
    found = {(seen.colour, seen.shape) for seen in view.things}
    return all((thing.colour, thing.shape) in found for thing in things)


def is_recoloured(change: Recolouring, before: View, after: View) -> bool:
    """Whether there is one thing, of the same shape, where it was, in the new colour."""
    if len(after.things) != 1:
        return False
    (old,), (new,) = before.things, after.things
    moved = math.hypot(new.x - old.x, new.y - old.y)
    return (new.colour, new.shape) == (change.wanted.colour, change.wanted.shape) and moved < MOVED


def score_joined(pipe: Pipeline, pairs: Sequence[Joined], seeds: int) -> float:
    """Of the pictures of "A AND B", at the bundle's defaults, the share that shows both things."""
    marks = [
        shows_both(pair, look(pipe.generate(" AND ".join(map(caption_of, pair)), seed=seed)[0].pixels))
        for pair in pairs
        for seed in range(seeds)
    ]
    return float(np.mean(marks))


def score_recoloured(pipe: Pipeline, changes: Sequence[Recolouring], strength: float) -> float:
    """Of drawings painted anew at this strength, the share that kept its place and took its colour."""
    marks = []
    with TemporaryDirectory() as folder:
        for change in changes:
            drawing = draw(Scene(things=(change.drawn,), background="white"))
            picture = _paint_anew(pipe, drawing, change, strength, Path(folder) / "drawing.png")
            marks.append(is_recoloured(change, look(drawing), look(picture)))
    return float(np.mean(marks))


def _paint_anew(pipe: Pipeline, drawing: Bytes, change: Recolouring, strength: float, path: Path) -> Bytes:
    Image.fromarray(drawing).save(path)
    made = pipe.generate(caption_of(change.wanted), seed=change.seed, init_image=path, strength=strength)
    return made[0].pixels


def score_composition(pipe: Pipeline) -> dict[str, float]:
    """All of it by name, 0 to 1."""
    words = " AND ".join(map(caption_of, RED_AND_BLUE))
    scores = {
        f"{words}: both": score_joined(pipe, [RED_AND_BLUE], seeds=50),
        "ten other pairs: both": score_joined(pipe, other_pairs(), seeds=10),
    }
    for strength in STRENGTHS:
        scores[f"recoloured at strength {strength}"] = score_recoloured(pipe, recolourings(), strength)
    return scores
