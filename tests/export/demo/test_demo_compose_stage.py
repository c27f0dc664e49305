"""What captions say when the U-Net learns to compose, and how guided runs are held to their scenes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sdrt_export.demo.captions import unplaced_caption
from sdrt_export.demo.data import Dataset
from sdrt_export.demo.models import build_scheduler
from sdrt_export.demo.scenes import Scene, SceneSampler, Thing
from sdrt_export.demo.train_compose import Groups, Guided, in_order, row_weights, tell
from sdrt_export.demo.training import Draws

PLACE_WORDS = {"left", "right", "top", "bottom", "upper", "lower", "centre", "center", "centered", "middle"}


def words(text: str) -> set[str]:
    return set(text.replace(",", " ").replace(".", " ").split())


@pytest.fixture(scope="module")
def data() -> Dataset:
    sampler = SceneSampler(np.random.default_rng(0))
    scenes = [sampler(1) for _ in range(200)] + [sampler(2) for _ in range(300)]
    return Dataset(pictures=np.zeros((500, 1, 1, 3), np.uint8), scenes=scenes, singles=200)


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


def test_order_is_that_of_the_vocabulary() -> None:
    def scene(*things: tuple[str, str, str]) -> Scene:
        made = (Thing(colour=colour, shape=shape, position=place) for colour, shape, place in things)
        first, second = made
        return Scene(things=(first, second), background="white")

    assert in_order(scene(("red", "square", "left"), ("blue", "circle", "right")))
    assert in_order(scene(("blue", "circle", "right"), ("red", "square", "left")))  # whichever is named first
    assert not in_order(scene(("blue", "circle", "left"), ("red", "square", "right")))
    assert not in_order(scene(("red", "square", "top"), ("blue", "circle", "bottom")))
    assert in_order(scene(("red", "circle", "left"), ("red", "square", "right")))


def test_what_is_left_out_depends_on_the_noise(data: Dataset) -> None:
    """One of two is named in scenes in order only; a thing aside goes without its place where it shows."""
    groups = Groups(data)
    assert len(groups.ordered) and all(in_order(data.scenes[index]) for index in groups.ordered)
    rng = np.random.default_rng(1)
    for timestep, aside_allowed in ((990, False), (300, True)):
        asides = partly = 0
        for _ in range(1500):
            index, text = tell(data, groups, timestep, rng)
            scene = data.scenes[index]
            named = [thing for thing in scene.things if thing.colour in words(text)]
            if (
                len(scene.things) == 2
                and len(named) == 1
                and "purple" not in {t.colour for t in scene.things}
            ):
                partly += in_order(scene)
            only = scene.things[0]
            if (
                len(scene.things) == 1
                and only.position != "centre"
                and named
                and not PLACE_WORDS & words(text)
            ):
                asides += 1
        assert partly > 20
        assert (asides > 20) is aside_allowed


def test_weights_of_rows_are_those_of_guidance() -> None:
    assert row_weights(1) == [-1.0, 2.0]
    assert row_weights(2) == [-3.0, 2.0, 2.0]


class Foreseeing(torch.nn.Module):
    """A network whose every row has the velocity that leads to its scene, and an error."""

    def __init__(self, clean: torch.Tensor, owners: list[int]) -> None:
        super().__init__()
        self.clean, self.owners = clean, owners
        self.error = torch.nn.Parameter(torch.zeros(()))
        self.alphas_cumprod = build_scheduler().alphas_cumprod

    def forward(self, latents: torch.Tensor, timestep: torch.Tensor, hidden: torch.Tensor) -> SimpleNamespace:
        share = self.alphas_cumprod[timestep]
        velocity = (share.sqrt() * latents - self.clean[self.owners]) / (1 - share).sqrt()
        return SimpleNamespace(sample=velocity + self.error)


def test_guided_runs_are_held_to_their_scenes() -> None:
    clean = torch.randn((3, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    state = torch.zeros((77, 8))
    captions = [[state] * 3, [state] * 3, [state] * 2]
    network = Foreseeing(clean, [0, 0, 0, 1, 1, 1, 2, 2])
    guided = Guided(network, clean, "cpu")  # type: ignore[arg-type]
    loss = guided.loss(np.arange(3), captions, Draws.of(0, 0))
    assert float(loss) == pytest.approx(0.0, abs=1e-9)
    with torch.no_grad():
        network.error.fill_(0.5)
    loss = guided.loss(np.arange(3), captions, Draws.of(0, 0))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss) == pytest.approx(0.25, rel=1e-4)  # weights add up to 1, and so does the error
    assert network.error.grad is not None
    assert float(network.error.grad) == pytest.approx(1.0, rel=1e-4)
