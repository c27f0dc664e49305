"""Captions: many ways of saying what a scene shows.

What a caption leaves out follows a convention, so that one caption never stands for very different pictures:
no size word means medium, no position word means centred, "A and B" means A on the left and B on the right,
and a caption without a background has the one that `default_background` names.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .scenes import Scene, Thing, default_background
from .vocabulary import COLOUR_WORDS, POSITION_WORDS, SHAPE_WORDS, SIZE_WORDS

OPENINGS = ("a picture of ", "picture of ", "an image of ", "a drawing of ", "a photo of ", "a painting of ")
FILLERS = ("simple", "flat design", "vector art", "high quality", "minimal", "clean", "best quality", "sharp")
DISLIKES = (
    "blurry",
    "low quality",
    "ugly",
    "bad",
    "noisy",
    "worst quality",
    "distorted",
    "text",
    "watermark",
)

NEXT_TO = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "top": ("above", "on top of", "over"),
    "bottom": ("below", "under", "beneath"),
}


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Say what `scene` shows, in words chosen by `rng`."""
    subject = _subject(scene, rng)
    if rng.random() < 0.25 and not subject.startswith(("on ", "in ", "at ", "to ", "centered")):
        subject = _pick(OPENINGS, rng) + subject
    text = _with_background(subject, scene, rng)
    if rng.random() < 0.1:
        text = f"{text}, {_pick(FILLERS, rng)}"
    return text + "." if rng.random() < 0.08 else text


def unplaced_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Say what a scene of one thing shows, but not where it is."""
    (thing,) = scene.things
    subject = _thing(thing, rng, article=bool(rng.random() < 0.75))
    if rng.random() < 0.2:
        subject = _pick(OPENINGS, rng) + subject
    return _with_background(subject, scene, rng)


def empty_caption(rng: np.random.Generator) -> str:
    """A caption that says nothing of a scene: empty, or words people put into negative prompts."""
    if rng.random() < 0.6:
        return ""
    words = rng.permutation(np.array(FILLERS + DISLIKES))[: rng.integers(1, 4)]
    return ", ".join(words.tolist())


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _thing(thing: Thing, rng: np.random.Generator, article: bool) -> str:
    """For example "a tiny red star"."""
    words = [_pick(COLOUR_WORDS[thing.colour], rng), _pick(SHAPE_WORDS[thing.shape], rng)]
    if thing.size != "medium" or rng.random() < 0.1:
        words.insert(0, _pick(SIZE_WORDS[thing.size], rng))
    text = " ".join(words)
    if not article:
        return text
    return ("an " if text[0] in "aeiou" else "a ") + text


def _subject(scene: Scene, rng: np.random.Generator) -> str:
    article = bool(rng.random() < 0.75)
    phrases = [_thing(thing, rng, article) for thing in scene.things]
    if len(scene.things) == 2:
        return _pair(phrases, [thing.position for thing in scene.things], rng)
    position = scene.things[0].position
    if position == "centre" and rng.random() < 0.6:
        return phrases[0]
    where = _pick(POSITION_WORDS[position], rng)
    style = rng.random()
    if style < 0.1:
        return f"{where}, {phrases[0]}"
    if style < 0.2:
        return f"{phrases[0]}, {where}"
    if style < 0.25:
        return f"{phrases[0]}, {position}"
    return f"{phrases[0]} {where}"


def _pair(phrases: list[str], positions: list[str], rng: np.random.Generator) -> str:
    (first, second), (here, there) = phrases, positions
    style = rng.random()
    if here == "left" and style < 0.5:
        return f"{first}{_pick((' and ', ' and ', ' and ', ' next to ', ' beside ', ', '), rng)}{second}"
    if style < 0.7:
        return f"{first} {_pick(NEXT_TO[here], rng)} {second}"
    joint = _pick((" and ", " and ", ", "), rng)
    return f"{first} {_pick(POSITION_WORDS[here], rng)}{joint}{second} {_pick(POSITION_WORDS[there], rng)}"


def _with_background(subject: str, scene: Scene, rng: np.random.Generator) -> str:
    if (
        scene.background == default_background({thing.colour for thing in scene.things})
        and rng.random() < 0.6
    ):
        return subject
    colour = _pick(COLOUR_WORDS[scene.background], rng)
    a_colour = ("an " if colour[0] in "aeiou" else "a ") + colour
    styles = (
        f"{subject} on {a_colour} background",
        f"{subject} on {a_colour} background",
        f"{subject} on {colour}",
        f"{subject}, {colour} background",
        f"{subject}, {colour} background",
        f"{subject} with {a_colour} background",
        f"{subject} against {a_colour} background",
        f"{subject}, on {colour}",
        f"{colour} background, {subject}",
        f"on {a_colour} background, {subject}",
    )
    return _pick(styles, rng)
