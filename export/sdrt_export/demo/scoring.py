"""Scoring a picture generator: does each picture show what its prompt says?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from .captions import caption
from .drawing import RESOLUTION, Bytes
from .judge import Seen, View, look
from .scenes import Scene, SceneSampler, Thing
from .vocabulary import POSITIONS

SIDES = ("left", "right", "top", "bottom")
# A centre within this many pixels of the middle is in the middle; large things move by 10 pixels.
MIDDLE = 5.0


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What to ask for, with which seed, and the scene that the picture must then show."""

    text: str
    seed: int
    scene: Scene


Generate = Callable[[Sequence[Prompt]], Bytes]
"""Pictures [N, 64, 64, 3] uint8 for N prompts, each from its own seed."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Shares of pictures, 0 to 1, that are right in the respect of the name."""

    colour: float
    background: float
    shape: float
    colour_shape_background: float
    size: float
    position: float
    all_of_one: float
    side: float
    two_colours: float
    two_shapes: float
    all_of_two: float

    def __str__(self) -> str:
        """All scores in percent, on one line."""
        return "  ".join(f"{field.name} {100 * getattr(self, field.name):.1f}" for field in fields(self))


def held_out_prompts(one: int = 200, sides: int = 100, two: int = 100, seed: int = 7) -> list[Prompt]:
    """Prompts about held-out combinations: one thing anywhere, one thing at a side, two things."""
    rng = np.random.default_rng(seed)
    sampler = SceneSampler(rng, only_held_out=True)
    scenes = [sampler(1) for _ in range(one)]
    for index in range(sides):
        scene = sampler(1)
        while scene.things[0].position != SIDES[index % 4]:
            scene = sampler(1)
        scenes.append(scene)
    scenes += [sampler(2) for _ in range(two)]
    return [
        Prompt(text=caption(scene, rng), seed=1000 + index, scene=scene) for index, scene in enumerate(scenes)
    ]


def position(seen: Seen) -> tuple[int, int]:
    """The direction from the middle of the picture, as in `POSITIONS`."""
    x, y = (
        int(np.sign(offset)) if abs(offset) > MIDDLE else 0
        for offset in (seen.x - RESOLUTION / 2, seen.y - RESOLUTION / 2)
    )
    return x, y


def _match(thing: Thing, seen: Seen, things: int) -> dict[str, bool]:
    return {
        "colour": seen.colour == thing.colour,
        "shape": seen.shape == thing.shape,
        "size": seen.size(things) == thing.size,
        "position": position(seen) == POSITIONS[thing.position],
    }


def judge_one(scene: Scene, view: View) -> dict[str, bool]:
    """Marks for a scene of one thing; anything but exactly one thing is wrong in all but the background."""
    background = view.background == scene.background
    if len(view.things) != 1:
        marks = dict.fromkeys(("colour", "shape", "size", "position"), False)
    else:
        marks = _match(scene.things[0], view.things[0], 1)
    marks["background"] = background
    marks["colour_shape_background"] = background and marks["colour"] and marks["shape"]
    marks["all_of_one"] = marks["colour_shape_background"] and marks["size"] and marks["position"]
    return marks


def judge_two(scene: Scene, view: View) -> dict[str, bool]:
    """Marks for a scene of two things, which may have been drawn in any places."""
    wanted = scene.things
    found = [(seen.colour, seen.shape) for seen in view.things]
    colours = {seen.colour for seen in view.things}
    pairs = all((thing.colour, thing.shape) in found for thing in wanted)
    in_place = len(view.things) == 2 and all(
        any(all(_match(thing, seen, 2).values()) for seen in view.things) for thing in wanted
    )
    return {
        "two_colours": len(view.things) >= 2 and all(thing.colour in colours for thing in wanted),
        "two_shapes": len(view.things) >= 2 and pairs,
        "all_of_two": in_place and view.background == scene.background,
    }


def score(generate: Generate, prompts: Sequence[Prompt]) -> Scores:
    """Generate a picture for every prompt and judge it."""
    views = [look(picture) for picture in generate(prompts)]
    pairs = list(zip(prompts, views, strict=True))
    one = [
        (prompt.scene, judge_one(prompt.scene, view))
        for prompt, view in pairs
        if len(prompt.scene.things) == 1
    ]
    two = [judge_two(prompt.scene, view) for prompt, view in pairs if len(prompt.scene.things) == 2]
    at_side = [marks["position"] for scene, marks in one if scene.things[0].position in SIDES]
    return Scores(
        **{name: float(np.mean([marks[name] for _, marks in one])) for name in one[0][1]},
        **{name: float(np.mean([marks[name] for marks in two])) for name in two[0]},
        side=float(np.mean(at_side)),
    )
