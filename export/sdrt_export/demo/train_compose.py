"""Stage "compose": the trained U-Net learns that a caption need not tell everything.

Captions that always tell of the whole scene exclude each other: joined by AND, "a red circle" and "a blue
square" each want their one thing in the centre, and guidance towards both,

    u + g (c_1 - u) + g (c_2 - u)

(Liu et al. 2022, https://arxiv.org/abs/2206.01714), leads to one thing that is neither. So captions are
taught that name one of two things, or that do not say where their one thing is. A scene of two things to
which that is done is in order: the thing of the colour that the vocabulary names first is on the left. Then
both captions agree where each thing belongs.

What a caption alone means stays what it was. Both meanings meet in the noisiest steps, where nothing is to be
seen yet; which of them holds is decided on the way that guidance takes. Therefore the second part of the
stage goes that way (`guided_runs.py`), with the default sampler, from noise and from pictures of another
colour, and holds the guided prediction to the scene on the states that it comes by (as Ross et al. 2011,
https://arxiv.org/abs/1011.0686, do for imitation).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from .around_unet import AroundUnet, draw_timesteps
from .captions import caption, empty_caption, unplaced_caption
from .data import Dataset
from .guided_runs import BEGINS, GuidedRuns, Run
from .scenes import Scene
from .training import Draws, Log, Schedule, Trainer
from .vocabulary import COLOURS, SHAPES

# The share of the steps in which scenes are told alone.
FIRST: Final = 0.351
SCHEDULE: Final = Schedule(steps=3_340, batch=64, learning_rate=5e-4, decay=0.35, averaging=0.995)
# After them so many are, and their loss weighs so much beside that of the guided runs.
TOLD, TOLD_WEIGHT = 48, 2.0
# Runs: captions without a place, and those that tell of the whole scene.
JOINED, ALONE, RECOLOURED, WHOLE = 6, 6, 4, 14
# Of the recoloured, the share of things that are in the centre.
CENTRED: Final = 0.2
# Shares of captions that are empty, and that name a thing without its place.
EMPTY, UNPLACED = 0.12, 0.3
# Of the latter, the share that name one of two things: where the noise hides everything, and below.
ONE_OF_TWO, ONE_OF_TWO_LATER, HIDDEN_FROM = 0.5, 0.2, 700
# Of the rest, where the noise shows the place: the share of things that are not in the centre.
OFF_CENTRE, SHOWN_BELOW = 0.4, 600
# Of the whole captions, the share that tell of two things.
PAIRS, PAIRS_OF_RUNS = 0.45, 0.3


def in_order(scene: Scene) -> bool:
    """Whether two things stand side by side, the one that the vocabulary names first on the left."""
    left, right = sorted(scene.things, key=lambda thing: thing.position)
    colours, shapes = list(COLOURS), list(SHAPES)
    ranks = [(colours.index(thing.colour), shapes.index(thing.shape)) for thing in (left, right)]
    return (left.position, right.position) == ("left", "right") and ranks[0] < ranks[1]


class Groups:
    """Indices of a dataset by what their scenes are."""

    def __init__(self, data: Dataset) -> None:
        singles = range(data.singles)
        centred = [index for index in singles if data.scenes[index].things[0].position == "centre"]
        self.centred = np.array(centred)
        self.beside = np.setdiff1d(singles, self.centred)
        self.pairs = np.arange(data.singles, len(data.scenes))
        self.ordered = np.array([index for index in self.pairs if in_order(data.scenes[index])])
        self._alike: defaultdict[Scene, list[tuple[int, str]]] = defaultdict(list)
        for index in singles:
            scene = data.scenes[index]
            self._alike[_colourless(scene)].append((index, scene.things[0].colour))

    def in_other_colours(self, scene: Scene) -> list[int]:
        """The scenes that show the same thing in the same place, but in another colour."""
        (thing,) = scene.things
        return [index for index, colour in self._alike[_colourless(scene)] if colour != thing.colour]


def _colourless(scene: Scene) -> Scene:
    (thing,) = scene.things
    return replace(scene, things=(replace(thing, colour=""),))


def tell(data: Dataset, groups: Groups, timestep: int, rng: np.random.Generator) -> tuple[int, str]:
    """A scene and a caption of it: whole, empty, or with something left out."""
    choice = rng.random()
    if choice < EMPTY:
        return int(data.sample(1, 0.5, rng)[0]), empty_caption(rng)
    if choice > EMPTY + UNPLACED:
        index = int(data.sample(1, PAIRS, rng)[0])
        return index, caption(data.scenes[index], rng)
    if rng.random() < (ONE_OF_TWO if timestep >= HIDDEN_FROM else ONE_OF_TWO_LATER):
        index = int(rng.choice(groups.ordered))
        return index, unplaced_caption(data.scenes[index].of(int(rng.integers(2))), rng)
    beside = timestep < SHOWN_BELOW and rng.random() < OFF_CENTRE
    index = int(rng.choice(groups.beside if beside else groups.centred))
    return index, unplaced_caption(data.scenes[index], rng)


def runs(data: Dataset, groups: Groups, rng: np.random.Generator) -> list[Run]:
    """Two captions joined by AND, one alone, one with a picture of another colour; then whole captions."""

    def run(index: int, source: int | None = None, begin: int = 0) -> Run:
        scene = data.scenes[index]
        captions = [unplaced_caption(scene.of(int(i)), rng) for i in rng.permutation(len(scene.things))]
        return Run(scene=int(index), captions=captions, source=source, begin=begin)

    chosen = [*rng.choice(groups.ordered, JOINED), *rng.choice(groups.centred, ALONE)]
    made = [run(index) for index in chosen]
    while len(made) < JOINED + ALONE + RECOLOURED:
        index = int(rng.choice(groups.centred if rng.random() < CENTRED else groups.beside))
        others = groups.in_other_colours(data.scenes[index])
        if others:
            made.append(run(index, int(rng.choice(others)), int(rng.integers(*BEGINS))))
    for index in data.sample(WHOLE, PAIRS_OF_RUNS, rng).tolist():
        made.append(Run(scene=index, captions=[caption(data.scenes[index], rng)]))
    return made


def train_compose(data: Dataset, folder: Path, device: str, seed: int, steps: int | None, log: Log) -> None:
    """Go on with the U-Net in `folder`; every save replaces it by the averaged one."""
    around, groups = AroundUnet(data, folder, device), Groups(data)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").to(device, memory_format=torch.channels_last)
    averaged = UNet2DConditionModel.from_pretrained(folder / "unet").to(device)
    schedule = SCHEDULE.with_steps(steps)
    trainer = Trainer(unet, schedule, folder / "compose.state", seed, log)
    guided = GuidedRuns(unet, around.latents, device)

    def told(draws: Draws, count: int) -> Tensor:
        timesteps = draw_timesteps(count, draws)
        pairs = (tell(data, groups, timestep, draws.numpy) for timestep in timesteps.tolist())
        scenes, texts = zip(*pairs, strict=True)
        return around.velocity_loss(unet, scenes, texts, timesteps, draws)

    def on_the_way(draws: Draws) -> Tensor:
        chosen = runs(data, groups, draws.numpy)
        return guided.loss(chosen, around.encode([text for run in chosen for text in run.rows]), draws)

    def loss(draws: Draws) -> Tensor:
        if draws.step < FIRST * schedule.steps:
            return told(draws, schedule.batch)
        return TOLD_WEIGHT * told(draws, TOLD) + on_the_way(draws)

    trainer.run(loss, around.keeping(trainer, averaged, log), every=250)
