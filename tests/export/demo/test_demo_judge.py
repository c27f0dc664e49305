"""The judge must be right about what it can be checked on: drawings whose scenes are known."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt_export.demo.drawing import coverage, draw
from sdrt_export.demo.judge import connected_regions, look, nearest_colour
from sdrt_export.demo.scenes import Scene, SceneSampler, Thing
from sdrt_export.demo.scoring import Prompt, held_out_prompts, judge_one, judge_two, score
from sdrt_export.demo.vocabulary import COLOURS, SHAPES


def drawings(prompts: list[Prompt]) -> np.ndarray:
    return np.stack([draw(prompt.scene, np.random.default_rng(prompt.seed)) for prompt in prompts])


def test_perfect_drawings_get_perfect_scores() -> None:
    scores = score(drawings, held_out_prompts())
    assert set(vars(scores).values()) == {1.0}


def test_training_scenes_are_read_without_an_error() -> None:
    rng = np.random.default_rng(5)
    sampler = SceneSampler(rng)
    for index in range(200):
        scene = sampler(1 + index % 2)
        view = look(draw(scene, rng))
        marks = judge_one(scene, view) if len(scene.things) == 1 else judge_two(scene, view)
        assert all(marks.values()), scene


def test_pictures_of_something_else_are_wrong() -> None:
    prompts = held_out_prompts(one=50, sides=20, two=20)
    scores = score(lambda prompts: drawings([*prompts[1:], prompts[0]]), prompts)
    assert scores.colour_shape_background < 0.2
    assert scores.all_of_two < 0.2


def test_plain_noise_shows_nothing() -> None:
    rng = np.random.default_rng(6)
    prompts = held_out_prompts(one=10, sides=4, two=10)
    scores = score(lambda prompts: rng.integers(0, 256, (len(prompts), 64, 64, 3), dtype=np.uint8), prompts)
    assert scores.shape == scores.two_shapes == 0


@pytest.mark.parametrize("first", SHAPES)
def test_half_of_one_shape_and_half_of_another_is_no_good_match(first: str) -> None:
    second = SHAPES[(SHAPES.index(first) + 1) % len(SHAPES)]
    picture = draw(Scene(things=(Thing(colour="red", shape=first),), background="white"))
    picture[:, 32:] = draw(Scene(things=(Thing(colour="red", shape=second),), background="white"))[:, 32:]
    assert look(picture).things[0].overlap < 0.95


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_are_recognised_when_a_little_off(colour: str) -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        rgb = np.clip(np.array(COLOURS[colour]) + rng.integers(-20, 21, 3), 0, 255).astype(np.float32)
        assert nearest_colour(rgb) == colour


def test_regions_touch_along_edges() -> None:
    mask = np.array([[1, 1, 0, 0], [0, 1, 0, 1], [1, 0, 1, 1]], bool)
    assert sorted(int(region.sum()) for region in connected_regions(mask)) == [1, 3, 3]


def test_coverage_is_the_area_of_the_shape() -> None:
    # 4 x 4 sub-pixels: the error of the area is well below that of one ring of pixels.
    assert coverage("circle", 32, 32, 20).sum() == pytest.approx(np.pi * 20**2, rel=0.003)
    assert coverage("square", 32, 32, 20).sum() == pytest.approx((2 * 0.88 * 20) ** 2, rel=0.02)
