"""Scenes and captions: the held-out combinations stay out, and captions keep their conventions."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt_export.demo.captions import caption, empty_caption
from sdrt_export.demo.scenes import Scene, SceneSampler, Thing, choose_held_out, held_out
from sdrt_export.demo.vocabulary import COLOUR_WORDS, COLOURS, SHAPE_WORDS, SHAPES


def captions_of(scene: Scene, count: int = 200) -> list[str]:
    rng = np.random.default_rng(0)
    return [caption(scene, rng) for _ in range(count)]


def test_the_committed_held_out_list_is_the_seeded_one() -> None:
    assert held_out() == choose_held_out(seed=0)
    assert {colour for colour, _, _ in held_out()} == set(COLOURS)
    assert {shape for _, shape, _ in held_out()} == set(SHAPES)


@pytest.mark.parametrize("things", [1, 2])
def test_training_never_draws_a_held_out_combination(things: int) -> None:
    sampler = SceneSampler(np.random.default_rng(1))
    drawn = {combination for _ in range(2000) for combination in sampler(things).combinations}
    assert drawn.isdisjoint(held_out())


@pytest.mark.parametrize("things", [1, 2])
def test_scoring_draws_held_out_combinations_only(things: int) -> None:
    sampler = SceneSampler(np.random.default_rng(1), only_held_out=True)
    for _ in range(50):
        assert not set(held_out()).isdisjoint(sampler(things).combinations)


def test_things_differ_from_their_background() -> None:
    sampler = SceneSampler(np.random.default_rng(2))
    for index in range(1000):
        scene = sampler(1 + index % 2)
        assert scene.background not in {thing.colour for thing in scene.things}


def test_the_same_seed_gives_the_same_scenes() -> None:
    first, second = (SceneSampler(np.random.default_rng(3)) for _ in range(2))
    assert [first(1) for _ in range(20)] == [second(1) for _ in range(20)]


def test_a_caption_always_names_colour_and_shape() -> None:
    scene = Scene(things=(Thing(colour="purple", shape="square"),), background="green")
    for text in captions_of(scene):
        assert any(word in text for word in COLOUR_WORDS["purple"])
        assert any(word in text for word in SHAPE_WORDS["square"])
        assert "green" in text


def test_only_the_default_background_goes_unnamed() -> None:
    white = captions_of(Scene(things=(Thing(colour="red", shape="star"),), background="white"))
    assert any("white" not in text for text in white)
    on_black = captions_of(Scene(things=(Thing(colour="white", shape="star"),), background="black"))
    assert any("black" not in text for text in on_black)


def test_a_side_is_always_named() -> None:
    left = Scene(things=(Thing(colour="red", shape="star", position="left"),), background="blue")
    assert all("left" in text for text in captions_of(left))


def test_only_left_and_right_in_this_order_go_unnamed_in_a_pair() -> None:
    def pair(first: str, second: str) -> Scene:
        things = (
            Thing(colour="red", shape="star", position=first),
            Thing(colour="green", shape="ring", position=second),
        )
        return Scene(things=things, background="blue")

    assert any("left" not in text and "right" not in text for text in captions_of(pair("left", "right")))
    assert all("left" in text or "right" in text for text in captions_of(pair("right", "left")))


def test_empty_captions_name_nothing_that_can_be_drawn() -> None:
    rng = np.random.default_rng(4)
    words = {word for _ in range(200) for word in empty_caption(rng).replace(",", "").split()}
    assert words.isdisjoint({*COLOURS, *SHAPES})
