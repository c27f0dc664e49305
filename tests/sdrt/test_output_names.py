"""Patterns of names: what their fields say, and that no field names another folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdrt.errors import InputError, UnknownNameError
from sdrt.many.output_names import NamePattern

VALUES = {
    "index": 7,
    "model": "Demo v1/../x",
    "seed": 2**64 - 1,
    "prompt": "../../etc/A red  circle!",
    "guidance_scale": 7.50,
    "eta": None,
    "init_image": Path("some/where/cat.png"),
    "negative_prompt": "",
    "title": "/root",
    "steps": 20,
}


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("x.png", "x.png"),
        ("out/{index:04}-{seed}.png", "out/0007-18446744073709551615.png"),
        ("{prompt}.png", "etc-a-red-circle.png"),
        ("{prompt:.5}/{title}.png", "etc-a/root.png"),
        ("{model}-{guidance}-{guidance_scale:.2f}.png", "demo-v1-x-7.5-7.50.png"),
        ("{eta}{negative}{init_image}.png", "nonenegativecat.png"),
        ("{{{steps:>4}}}.png", "{  20}.png"),
    ],
)
def test_names(pattern, name):
    named = NamePattern(Path(pattern))
    named.check({"title"})
    assert named.path(VALUES) == Path(name)


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [
        ("x.png", "."),
        ("a/x.png", "a"),
        ("a/b-{seed}.png", "a"),
        ("a/b-{model}/c/{seed}.png", "a"),
        ("{model}/x.png", "."),
        ("/{{a}}/{seed}.png", "/{a}"),
    ],
)
def test_folder_that_has_to_be_there(pattern, folder):
    assert NamePattern(Path(pattern)).folder == Path(folder)


@pytest.mark.parametrize("pattern", ["{}.png", "{0}.png", "{seed.real}.png", "{prompt[0]}.png", "{sed}.png"])
def test_unknown_fields(pattern):
    with pytest.raises(UnknownNameError, match="unknown field in the name of the output"):
        NamePattern(Path(pattern)).check()


def test_the_nearest_fields_are_named():
    with pytest.raises(UnknownNameError, match=r"'tilte'; did you mean title"):
        NamePattern(Path("{tilte}.png")).check({"title"})


@pytest.mark.parametrize(
    "pattern", ["{seed", "seed}", "{index:0999999999}", "{prompt:/>30}", "{index:{seed}}", "{index!r:x}"]
)
def test_no_pattern(pattern):
    with pytest.raises(InputError, match=r"no pattern of names|is no format"):
        NamePattern(Path(pattern))


def test_value_that_is_no_number():
    with pytest.raises(InputError, match=r"cannot write prompt .* as '04d'"):
        NamePattern(Path("{prompt:04d}.png")).path(VALUES)
