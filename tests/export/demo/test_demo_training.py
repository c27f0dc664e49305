"""The training loop: schedule, resuming, averaging; and the parts of the losses that are easily wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sdrt_export.demo.around_unet import draw_timesteps
from sdrt_export.demo.data import draw_dataset, load_dataset
from sdrt_export.demo.drawing import draw
from sdrt_export.demo.scenes import Scene, Thing
from sdrt_export.demo.train_text import ATTRIBUTES, attributes
from sdrt_export.demo.train_vae import THING_WEIGHT, pixel_weights, to_pictures, to_tensor
from sdrt_export.demo.training import Draws, Schedule, Trainer


def linear_trainer(state: Path, steps: int) -> tuple[Trainer, nn.Linear]:
    torch.manual_seed(0)
    module = nn.Linear(3, 1)
    schedule = Schedule(steps=steps, batch=8, learning_rate=0.05, decay=0.5, warmup=3)
    return Trainer(module, schedule, state, seed=0, log=lambda message: None), module


def run(trainer: Trainer, module: nn.Linear, stop: int | None = None) -> None:
    def loss(draws: Draws) -> Tensor:
        if draws.step == stop:
            raise KeyboardInterrupt
        inputs = torch.randn(8, 3, generator=draws.torch)
        return (module(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()

    trainer.run(loss, every=5)


def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    whole, module = linear_trainer(tmp_path / "whole", 40)
    run(whole, module)
    killed, killed_module = linear_trainer(tmp_path / "killed", 40)
    with pytest.raises(KeyboardInterrupt):
        run(killed, killed_module, stop=23)
    resumed, resumed_module = linear_trainer(tmp_path / "killed", 40)
    assert resumed.step == 20
    run(resumed, resumed_module)
    assert torch.equal(module.weight, resumed_module.weight)
    assert torch.equal(whole.averaged["weight"], resumed.averaged["weight"])


def test_training_learns_and_the_average_follows(tmp_path: Path) -> None:
    trainer, module = linear_trainer(tmp_path / "state", 300)
    run(trainer, module)
    trainer.use_averaged()
    assert torch.allclose(module.weight, torch.ones(1, 3), atol=0.05)


def test_the_schedule_warms_up_stays_and_falls_to_zero() -> None:
    schedule = Schedule(steps=1000, batch=1, learning_rate=2.0, decay=0.4, warmup=100)
    assert schedule.rate(0) == pytest.approx(0.02)
    assert schedule.rate(99) == schedule.rate(600) == 2.0
    assert schedule.rate(800) == pytest.approx(1.0)
    assert schedule.rate(999) < 1e-4


def test_a_dataset_is_drawn_once_and_read_back(tmp_path: Path) -> None:
    draw_dataset(tmp_path, singles=6, pairs=4, seed=0)
    draw_dataset(tmp_path, singles=1, pairs=1, seed=1)
    data = load_dataset(tmp_path)
    assert data.pictures.shape == (10, 64, 64, 3)
    assert [len(scene.things) for scene in data.scenes] == [1] * 6 + [2] * 4
    rows = data.sample(100, 0.0, Draws.of(0, 0).numpy)
    assert rows.max() < 6


def test_attributes_follow_the_picture_not_the_caption() -> None:
    red, blue = (
        Thing(colour="red", shape="star", position="right"),
        Thing(colour="blue", shape="ring", size="large", position="left"),
    )
    assert attributes(Scene(things=(red, blue), background="white")) == attributes(
        Scene(things=(blue, red), background="white")
    )
    single = attributes(Scene(things=(red,), background="white"))
    assert single[5:] == [len(values) for values in ATTRIBUTES[5:]]
    assert attributes(None) == [len(values) for values in ATTRIBUTES]


def test_weights_cover_the_thing_and_its_rim() -> None:
    picture = draw(Scene(things=(Thing(colour="red", shape="square"),), background="white"))
    weights = pixel_weights(to_tensor(picture[None]))[0, 0]
    edge = round(32 + 0.88 * 14.5)
    assert weights[32, 32] == weights[32, edge + 1] == THING_WEIGHT
    assert weights[32, edge + 4] == weights[0, 0] == 1


def test_pictures_survive_the_way_to_tensors_and_back() -> None:
    picture = draw(Scene(things=(Thing(colour="green", shape="star"),), background="yellow"))[None]
    assert (to_pictures(to_tensor(picture)) == picture).all()


def test_most_timesteps_are_noisy_and_all_occur() -> None:
    timesteps = draw_timesteps(20_000, Draws.of(0, 0))
    assert timesteps.min() >= 0 and timesteps.max() == 999
    # 40 percent from 700-999, and 30 percent of the rest: 0.58, with a standard error of 0.0035.
    assert float((timesteps >= 700).float().mean()) == pytest.approx(0.58, abs=0.015)
