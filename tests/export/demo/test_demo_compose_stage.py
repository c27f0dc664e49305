"""What captions say when the U-Net learns to compose."""

from __future__ import annotations

import numpy as np

from sdrt_export.demo.captions import unplaced_caption
from sdrt_export.demo.scenes import Scene, SceneSampler, Thing
from sdrt_export.demo.train_compose import joined_captions, telling

PLACE_WORDS = {"left", "right", "top", "bottom", "upper", "lower", "centre", "center", "centered", "middle"}


def words(text: str) -> set[str]:
    return set(text.replace(",", " ").replace(".", " ").split())


def test_captions_of_one_thing_of_two_name_it_alone_and_say_no_place() -> None:
    rng = np.random.default_rng(0)
    sampler = SceneSampler(rng)
    for _ in range(300):
        scene = sampler(2)
        text = unplaced_caption(scene.of(0), rng)
        assert not PLACE_WORDS & words(text)
        first, second = scene.things
        if second.colour not in (first.colour, scene.background, "purple"):
            assert second.colour not in words(text)


def test_what_and_joins_is_told_apart_and_beside_an_empty_caption() -> None:
    rng = np.random.default_rng(1)
    scene = Scene(
        things=(
            Thing(colour="red", shape="star", position="left"),
            Thing(colour="blue", shape="triangle", position="right"),
        ),
        background="green",
    )
    for _ in range(200):
        nothing, first, second = joined_captions(scene, rng)
        assert not {"star", "triangle", "green"} & words(nothing)
        assert {"red", "star", "green"} <= words(first) and not {"blue", "triangle"} & words(first)
        assert {"blue", "triangle", "green"} <= words(second) and not {"red", "star"} & words(second)


def test_two_things_are_both_named_while_noise_hides_how_many_there_are() -> None:
    rng = np.random.default_rng(2)
    sampler = SceneSampler(rng)
    scenes = [sampler(2) for _ in range(300)]
    named = [telling(scene, 999, rng) for scene in scenes]
    told = [(scene, text) for scene, text in zip(scenes, named, strict=True) if "background" in text]
    assert told
    for scene, text in told:
        for thing in scene.things:
            assert thing.colour in words(text) or thing.colour == "purple"
