"""The library's own interface: types, steps one by one, stopping."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import numpy as np
import pytest

import sdrt
from sdrt.request import resolve_request


@pytest.fixture(scope="module")
def pipeline():
    with sdrt.Pipeline.load(backend="onnxruntime") as pipeline:
        yield pipeline


def test_every_public_name_is_there():
    for name in sdrt.__all__:
        assert getattr(sdrt, name) is not None


def test_settings_are_the_keywords_of_a_request():
    """Their types too, so that a checker knows of each what resolve_request takes."""
    known = get_type_hints(resolve_request)
    optional = [
        name
        for name, parameter in inspect.signature(resolve_request).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    assert get_type_hints(sdrt.Settings) == {name: known[name] for name in optional}


def test_steps_come_one_by_one(pipeline):
    request = pipeline.request("a red star", seed=1, steps=4, count=2)
    events = list(pipeline.steps(request))
    progress = [event for event in events if isinstance(event, sdrt.Progress)]
    assert [at.done for at in progress] == [0, 1, 2, 3, 4]
    assert {at.evaluations for at in progress} == {4}
    pictures = [event for event in events if isinstance(event, sdrt.Picture)]
    assert [picture.request.seed for picture in pictures] == [1, 2]
    for picture, alone in zip(pictures, pipeline.run(request), strict=True):
        np.testing.assert_array_equal(picture.pixels, alone.pixels)


def test_stopping_leaves_the_pipeline_ready(pipeline):
    expected = pipeline.generate("a red star", seed=1, steps=4)[0].pixels
    for event in pipeline.steps(pipeline.request("a blue ring", seed=5, steps=6)):
        if isinstance(event, sdrt.Progress) and event.done == 3:
            break

    class CancelledError(Exception):
        pass

    def on_step(at):
        if at.done == 2:
            raise CancelledError

    with pytest.raises(CancelledError):
        list(pipeline.run(pipeline.request("a blue ring", seed=5, steps=6), on_step))
    np.testing.assert_array_equal(pipeline.generate("a red star", seed=1, steps=4)[0].pixels, expected)


def test_nothing_runs_before_it_is_asked_for(pipeline):
    steps = pipeline.steps(pipeline.request("a red star", seed=1, steps=4))
    first = next(steps)
    assert first.done == 0
    assert first.predictions() == []
    steps.close()
    assert list(steps) == []
