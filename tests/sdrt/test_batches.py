"""Many requests at once: in their order, each what it would be alone, in as few batches as they fit in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sdrt import manifest as manifests
from sdrt.batches import Limits, Preparing, batches
from sdrt.bundle import DEMO
from sdrt.pipeline import Pipeline
from sdrt.request import Request, resolve_request
from sdrt.samples import Conditions

LONG = " ".join(["a small red circle"] * 25)  # more than 75 tokens: two chunks

# they share a size, and nothing else that the loop could confuse
MIXED = (
    {"prompt": "a red star", "sampler": "ddim", "steps": 5, "seed": 1, "count": 2},
    {"prompt": "a blue cross", "sampler": "euler_a", "steps": 4, "seed": 2, "guidance_scale": 1.0},
    {"prompt": "a [red:green:0.5] ring", "sampler": "dpmpp_2m_karras", "steps": 5, "negative_prompt": "blue"},
    {"prompt": "a red circle AND a blue square", "sampler": "euler", "steps": 5, "guidance_scale": 4.0},
    {"prompt": "a square", "sampler": "ddim", "eta": 1.0, "steps": 4, "guidance_interval": (0.0, 0.5)},
)


def resolved(pipeline: Pipeline, *settings: dict) -> list[Request]:
    base = {"seed": 7, "width": 32, "height": 32, "steps": 2}
    return [resolve_request(pipeline.manifest, **{"prompt": "a star", **base, **own}) for own in settings]


def batches_of(pipeline: Pipeline, requests: list[Request]) -> list[list[int]]:
    """The places, among all pictures, of those in each batch; seeds tell which they are."""
    seen = []
    list(pipeline.run(requests, lambda at: seen.append(at) if at.done == 0 else None))
    return [[one.seed for one in at.requests] for at in seen]


def test_pictures_that_differ_in_everything_share_a_batch_and_are_what_they_are_alone(pipeline, tmp_path):
    """Bit by bit, as when all pictures of a batch are of one request."""
    Image.new("RGB", (32, 32), "yellow").save(tmp_path / "yellow.png")
    requests = resolved(
        pipeline, *MIXED, {"init_image": tmp_path / "yellow.png", "steps": 5, "strength": 0.8}
    )
    assert len(batches_of(pipeline, requests)) == 1
    together = list(pipeline.run(requests))
    alone = [picture for request in requests for picture in pipeline.run(request)]
    assert [one.request for one in together] == [one.request for one in alone]
    for ours, own in zip(together, alone, strict=True):
        np.testing.assert_array_equal(ours.pixels, own.pixels)
        assert ours.texts == own.texts


def test_order_is_that_of_the_requests_whatever_the_batches(pipeline):
    steps = [(2, 9)[i % 2] for i in range(12)]
    requests = resolved(pipeline, *({"steps": n, "seed": i} for i, n in enumerate(steps)))
    # few steps would wait for many: two batches of six, and the second's first picture is the run's second
    assert batches_of(pipeline, requests) == [[*range(0, 12, 2)], [*range(1, 12, 2)]]
    assert [picture.request.seed for picture in pipeline.run(requests)] == list(range(12))


@pytest.mark.parametrize(
    "other",
    [{"width": 40}, {"height": 24}, {"steps": 3}, {"prompt": LONG}],
    ids=["width", "height", "steps", "tokens"],
)
def test_pictures_of_another_shape_have_a_batch_of_their_own(pipeline, other):
    requests = resolved(pipeline, {"seed": 0}, {"seed": 1, **other}, {"seed": 2})
    assert batches_of(pipeline, requests) == [[0, 2], [1]]


def test_engines_get_the_rows_they_were_built_for(pipeline, monkeypatch):
    """Where the backend says how many pictures it makes, guided ones and others do not mix."""
    requests = resolved(pipeline, *({"seed": i, "guidance_scale": 1.0 + i % 2} for i in range(6)))
    assert batches_of(pipeline, requests) == [[0, 1, 2, 3, 4, 5]]
    monkeypatch.setattr(pipeline.runtime, "pictures_at_once", lambda width, height: 2, raising=False)
    assert batches_of(pipeline, requests) == [[0, 2], [1, 3], [4], [5]]


def test_a_size_without_an_engine_is_refused_before_any_picture(pipeline, monkeypatch):
    def pictures_at_once(width, height):
        if width != 32:
            raise LookupError(width)
        return 1

    monkeypatch.setattr(pipeline.runtime, "pictures_at_once", pictures_at_once, raising=False)
    seen = []
    with pytest.raises(LookupError):
        next(pipeline.run(resolved(pipeline, {}, {"width": 40}), seen.append))
    assert seen == []


def test_pictures_come_as_soon_as_their_batch_is_done(pipeline):
    requests = resolved(pipeline, {"count": 9})
    requests.append(replace(requests[0], seed=100))
    seen = []
    pictures = pipeline.run(requests, seen.append)
    assert next(pictures).request.seed == 7
    assert {(at.first, at.batch, at.total) for at in seen} == {(0, 8, 18)}
    for _ in range(7):
        next(pictures)
    assert len(seen) == 3, "nothing is computed for pictures that nobody asked for yet"
    pictures.close()
    assert len(seen) == 3
    assert pipeline.generate("a cat", steps=1), "it can be used again"


def test_no_requests_are_no_pictures(pipeline):
    assert list(pipeline.run([])) == []


def test_deep_features_are_reused_at_the_same_evaluations_in_a_batch():
    """Else a picture would depend on its batch; which those are follows from when prompts change."""

    def conditions(request, table):
        row = {"encoder_hidden_states": np.zeros((77, 4), np.float32)}
        changes = {2: [row]} if "[" in request.prompt else {}
        return Conditions(rows=[row], guidance=[1.0], changes=changes)

    preparing = Preparing(
        table=lambda request: request.compile(manifest), conditions=conditions, given=lambda request: None
    )
    manifest = manifests.read(DEMO / manifests.FILE_NAME)
    asked = [
        resolve_request(manifest, text, steps=4, seed=1) for text in ("a", "[a:b:0.5]", "c", "[c:d:0.5]")
    ]
    limits = Limits(most={(64, 64): 8}, same_rows=False)

    def places(interval):
        requests = [replace(one, deep_cache=interval) for one in asked]
        return [[placed.index for placed in batch] for batch in batches(requests, preparing, limits)]

    assert places(1) == [[0, 1, 2, 3]]
    assert places(3) == [[0, 2], [1, 3]]
