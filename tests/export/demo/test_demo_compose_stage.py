"""What captions say when the U-Net learns to compose, and how guided runs are held to their scenes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sdrt_export.demo.captions import unplaced_caption
from sdrt_export.demo.data import Dataset
from sdrt_export.demo.guided_runs import GuidedRuns, Run
from sdrt_export.demo.models import build_scheduler
from sdrt_export.demo.scenes import Scene, SceneSampler, Thing
from sdrt_export.demo.train_compose import ALONE, JOINED, RECOLOURED, WHOLE, Groups, in_order, runs, tell
from sdrt_export.demo.training import Draws

PLACE_WORDS = {"left", "right", "top", "bottom", "upper", "lower", "centre", "center", "centered", "middle"}


def words(text: str) -> set[str]:
    return set(text.replace(",", " ").replace(".", " ").split())


@pytest.fixture(scope="module")
def data() -> Dataset:
    sampler = SceneSampler(np.random.default_rng(0))
    scenes = [sampler(1) for _ in range(2000)] + [sampler(2) for _ in range(300)]
    return Dataset(pictures=np.zeros((2300, 1, 1, 3), np.uint8), scenes=scenes, singles=2000)


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


def test_runs_are_of_what_captions_without_a_place_lead_to(data: Dataset) -> None:
    groups, rng = Groups(data), np.random.default_rng(2)
    for _ in range(20):
        made = runs(data, groups, rng)
        without_place, whole = made[: JOINED + ALONE + RECOLOURED], made[JOINED + ALONE + RECOLOURED :]
        assert all(not PLACE_WORDS & words(text) for run in without_place for text in run.captions)
        assert len(whole) == WHOLE and all(len(run.captions) == 1 and not run.begin for run in whole)
        for run in made[:JOINED]:
            assert in_order(data.scenes[run.scene])
            assert len(run.captions) == 2
        for run in made[JOINED : JOINED + ALONE]:
            (thing,) = data.scenes[run.scene].things
            assert thing.position == "centre"
        for run in without_place[JOINED + ALONE :]:
            assert run.source is not None
            given, wanted = data.scenes[run.source], data.scenes[run.scene]
            (before,), (after,) = given.things, wanted.things
            assert before.colour != after.colour
            assert replace(before, colour=after.colour) == after
            assert given.background == wanted.background
            assert run.begin > 0


def test_weights_of_rows_are_those_of_guidance() -> None:
    assert Run(scene=0, captions=["a"]).weights == [-1.0, 2.0]
    assert Run(scene=0, captions=["a", "b"]).weights == [-3.0, 2.0, 2.0]
    assert Run(scene=0, captions=["a", "b"]).rows == ["", "a", "b"]


class Foreseeing(torch.nn.Module):
    """A network whose rows have the velocity that leads to the scene that their text names, and an error."""

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__()
        self.clean = clean
        self.error = torch.nn.Parameter(torch.zeros(()))
        self.alphas_cumprod = build_scheduler().alphas_cumprod
        self.seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def forward(self, latents: torch.Tensor, timestep: torch.Tensor, hidden: torch.Tensor) -> SimpleNamespace:
        self.seen.append((latents, timestep, hidden[:, 0, 0]))
        share = self.alphas_cumprod[timestep]
        clean = self.clean[hidden[:, 0, 0].long()]
        velocity = (share.sqrt() * latents - clean) / (1 - share).sqrt()
        return SimpleNamespace(sample=velocity + self.error)


LATENTS = torch.randn((4, 4, 8, 8), generator=torch.Generator().manual_seed(0))
RUNS = (
    Run(scene=0, captions=["", ""]),
    Run(scene=1, captions=[""]),
    Run(scene=2, captions=[""], source=3, begin=4),
)
# what stands for the texts of all rows: the scenes that they name
HIDDEN = torch.tensor([0.0, 0, 0, 1, 1, 2, 2])[:, None, None].expand(-1, 77, 8)


def test_guided_runs_are_held_to_their_scenes() -> None:
    network = Foreseeing(LATENTS)
    guided = GuidedRuns(network, LATENTS, "cpu")  # type: ignore[arg-type]
    assert guided.loss(RUNS, HIDDEN, Draws.of(0, 0)).item() == pytest.approx(0.0, abs=1e-9)
    with torch.no_grad():
        network.error.fill_(0.5)
    loss = guided.loss(RUNS, HIDDEN, Draws.of(0, 0))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(0.25, rel=1e-4)  # weights add up to 1, and so does the error
    assert network.error.grad is not None
    assert float(network.error.grad) == pytest.approx(1.0, rel=1e-4)


def test_a_run_with_a_picture_begins_with_that_picture_as_noisy_as_its_step() -> None:
    noises = []
    for source in (3, 1):
        network = Foreseeing(LATENTS)
        guided = GuidedRuns(network, LATENTS, "cpu")  # type: ignore[arg-type]
        given = Run(scene=2, captions=[""], source=source, begin=4)
        guided.loss([*RUNS[:2], given], HIDDEN, Draws.of(0, 0))
        runs_seen = [set(texts.tolist()) for _, _, texts in network.seen]
        assert runs_seen[:4] == [{0, 1}] * 4
        assert runs_seen[4] == {0, 1, 2}
        latents, timestep, _ = network.seen[4]
        share = network.alphas_cumprod[timestep]
        noises.append((latents[-1] - share.sqrt() * LATENTS[source]) / (1 - share).sqrt())
    torch.testing.assert_close(noises[0], noises[1], rtol=1e-3, atol=1e-3)
    assert 0.85 < float(noises[0].std()) < 1.15
