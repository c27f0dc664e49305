"""Axes as people write them: lists, ranges, and words that stand in for others."""

from __future__ import annotations

import pytest

from sdrt.errors import InputError
from sdrt.many.axes import parse_axis


@pytest.mark.parametrize(
    ("text", "setting", "values"),
    [
        ("sampler=ddim, euler,DPM++ 2M Karras", "sampler", ("ddim", "euler", "DPM++ 2M Karras")),
        ("steps=5,10,20", "steps", (5, 10, 20)),
        ("steps=5-20:5", "steps", (5, 10, 15, 20)),
        ("steps=1-3, 9", "steps", (1, 2, 3, 9)),
        ("steps=20-5:5", "steps", (20, 15, 10, 5)),
        # AUTOMATIC1111's ways to say it
        ("Steps=5-20 (+5)", "steps", (5, 10, 15, 20)),
        ("CFG Scale=1-3 [5]", "guidance_scale", (1.0, 1.5, 2.0, 2.5, 3.0)),
        ("guidance=0.1-0.3:0.1", "guidance_scale", (0.1, 0.2, 0.3)),
        ("--seed=18446744073709551614-18446744073709551615", "seed", (2**64 - 2, 2**64 - 1)),
        ("seed=-1", "seed", (-1,)),
        ('prompt="a cat, black",a dog', "prompt", ("a cat, black", "a dog")),
        ("guidance-interval=0 0.5,0 1", "guidance_interval", ((0.0, 0.5), (0.0, 1.0))),
        ("sampler=1-3", "sampler", ("1-3",)),
    ],
)
def test_values(text, setting, values):
    axis = parse_axis(text)
    assert (axis.setting, axis.values) == (setting, values)
    assert len(axis.labels) == len(values)


def test_titles_say_what_numbers_are():
    assert parse_axis("guidance=2,7.5").titles == ("guidance scale 2", "guidance scale 7.5")
    assert parse_axis("sampler=ddim,Euler a").titles == ("ddim", "Euler a")


@pytest.mark.parametrize("word", ["replace", "Prompt S/R"])
def test_words_that_stand_in_for_others(word):
    axis = parse_axis(f'{word}=red,blue,"green, dark"')
    settings = {"prompt": "a red star, red", "negative_prompt": "not red", "steps": 3}
    prompts = [axis.applied(settings, place)["prompt"] for place in range(3)]
    assert prompts == ["a red star, red", "a blue star, blue", "a green, dark star, green, dark"]
    assert axis.applied(settings, 1)["negative_prompt"] == "not blue"
    with pytest.raises(InputError, match="'red' is in no prompt; begin replace= with words"):
        axis.applied({"prompt": "a star"}, 1)


def test_a_start_step_takes_the_place_of_a_strength():
    settings = {"strength": 0.5, "start_step": None}
    assert parse_axis("start-step=1,2").applied(settings, 1) == {"strength": None, "start_step": 2}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps", "no axis; write an option and its values, as in steps=5,10,20"),
        ("steps=", "has no values"),
        ("stepps=1", r"unknown setting 'stepps'; did you mean steps.* replace=old,new"),
        ("steps=a", "steps is 'a'; expected a whole number"),
        ("steps=1-2:0.5", r"steps is '1\.5'; expected a whole number"),
        ("steps=1-4:0", "'1-4:0' is no range"),
        ("seed=1-99999999999", "is no range of 1 to 1000 values"),
        ("seed=1-600,1-600", "has 1200 values, the limit is 1000"),
        ("count=1,2", "count is no axis; for several pictures"),
        ('prompt="a', "cannot read the values"),
        ("limits=1", "unknown setting 'limits'"),
    ],
)
def test_wrong_axes(text, says):
    with pytest.raises(InputError, match=says):
        parse_axis(text)


@pytest.mark.parametrize("text", ["steps=\udc9f", "fit=\udc9f", "guidance=\udc9f"])
def test_bytes_that_are_no_text(text):
    """The command line has a lone surrogate for each."""
    with pytest.raises(InputError, match=r"is '\\udc9f'; expected"):
        parse_axis(text)
