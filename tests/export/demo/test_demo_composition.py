"""What is asked of a bundle that composes, and how its pictures are judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdrt_export.demo.composition import (
    RED_AND_BLUE,
    Recolouring,
    caption_of,
    is_recoloured,
    other_pairs,
    recolourings,
    shows_both,
)
from sdrt_export.demo.drawing import draw
from sdrt_export.demo.judge import View, look
from sdrt_export.demo.scenes import Scene, Thing
from sdrt_export.demo.vocabulary import POSITIONS


def view_of(*things: Thing) -> View:
    return look(draw(Scene(things=things, background="white")))


def test_both_things_must_be_there_each_with_its_own_colour() -> None:
    circle, square = (
        replace(thing, position=side) for thing, side in zip(RED_AND_BLUE, ("left", "right"), strict=True)
    )
    assert shows_both(RED_AND_BLUE, view_of(circle, square))
    assert shows_both(
        RED_AND_BLUE, view_of(replace(square, position="left"), replace(circle, position="right"))
    )
    assert not shows_both(RED_AND_BLUE, view_of(circle))
    swapped = replace(circle, colour="blue"), replace(square, colour="red")
    assert not shows_both(RED_AND_BLUE, view_of(*swapped))


@pytest.mark.parametrize("change", recolourings(20), ids=lambda change: caption_of(change.drawn))
def test_a_drawing_in_the_new_colour_is_right_and_one_elsewhere_is_not(change: Recolouring) -> None:
    before = view_of(change.drawn)
    assert is_recoloured(change, before, view_of(change.wanted))
    assert not is_recoloured(change, before, before)
    elsewhere = next(place for place in POSITIONS if place != change.drawn.position)
    assert not is_recoloured(change, before, view_of(replace(change.wanted, position=elsewhere)))
    other = "ring" if change.drawn.shape != "ring" else "star"
    assert not is_recoloured(change, before, view_of(replace(change.wanted, shape=other)))


def test_pairs_differ_in_colour_and_in_shape() -> None:
    for first, second in other_pairs():
        assert first.colour != second.colour and first.shape != second.shape
        assert "white" not in (first.colour, second.colour)
