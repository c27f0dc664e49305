"""Scenes: what a picture shows, drawn at random, without the held-out combinations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np

from .vocabulary import COLOURS, POSITIONS, SHAPES, SIZES

HELD_OUT_FILE: Final = Path(__file__).with_name("held_out.json")

# Where the first and the second object of a pair sit. The first arrangement is what "A and B" means.
ARRANGEMENTS: Final = (("left", "right"), ("right", "left"), ("top", "bottom"), ("bottom", "top"))

Combination = tuple[str, str, str]
"""(colour, shape, background colour)"""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One coloured shape in a picture."""

    colour: str
    shape: str
    size: str = "medium"
    position: str = "centre"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One or two things on a plain background."""

    things: tuple[Thing, ...]
    background: str

    @property
    def combinations(self) -> list[Combination]:
        """One for each thing."""
        return [(thing.colour, thing.shape, self.background) for thing in self.things]

    def of(self, index: int) -> Scene:
        """The same scene with this thing alone."""
        return Scene(things=(self.things[index],), background=self.background)


def default_background(colours: set[str]) -> str:
    """The background of a caption that names none: white, or the first colour that no thing has."""
    return next(colour for colour in ("white", "black", "blue") if colour not in colours)


def choose_held_out(seed: int = 0, share: float = 0.1) -> list[Combination]:
    """Choose the combinations that training never draws."""
    combinations = [
        (colour, shape, background)
        for colour, shape, background in product(COLOURS, SHAPES, COLOURS)
        if colour != background
    ]
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(combinations), size=round(share * len(combinations)), replace=False)
    return [combinations[index] for index in sorted(chosen.tolist())]


def held_out() -> list[Combination]:
    """Read the committed list that `choose_held_out` made."""
    return [
        (colour, shape, background) for colour, shape, background in json.loads(HELD_OUT_FILE.read_text())
    ]


class SceneSampler:
    """Draws random scenes of one or two things, without held-out combinations or with at least one."""

    def __init__(self, rng: np.random.Generator, only_held_out: bool = False) -> None:
        self.rng = rng
        self.held_out = frozenset(held_out())
        self.only_held_out = only_held_out

    def __call__(self, things: int) -> Scene:
        """Draw the next scene."""
        while True:
            scene = self._single() if things == 1 else self._pair()
            if self.held_out.isdisjoint(scene.combinations) != self.only_held_out:
                return scene

    def _single(self) -> Scene:
        rng = self.rng
        names = list(POSITIONS)
        position = names[rng.choice(9, p=[0.32] + [0.13] * 4 + [0.04] * 4)]
        thing = self._thing(position, medium=0.5)
        return Scene(things=(thing,), background=self._background({thing.colour}))

    def _pair(self) -> Scene:
        first, second = ARRANGEMENTS[self.rng.choice(4, p=[0.4, 0.2, 0.2, 0.2])]
        things = self._thing(first, medium=0.6), self._thing(second, medium=0.6)
        return Scene(things=things, background=self._background({thing.colour for thing in things}))

    def _thing(self, position: str, medium: float) -> Thing:
        rng = self.rng
        return Thing(
            colour=list(COLOURS)[rng.integers(len(COLOURS))],
            shape=SHAPES[rng.integers(len(SHAPES))],
            size=SIZES[rng.choice(3, p=[(1 - medium) / 2, medium, (1 - medium) / 2])],
            position=position,
        )

    def _background(self, colours: set[str]) -> str:
        if self.rng.random() < 0.15:
            return default_background(colours)
        free = [colour for colour in COLOURS if colour not in colours]
        return free[self.rng.integers(len(free))]
