"""The stages that train the U-Net, for two steps on a few pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

import sdrt_export
from sdrt_export.demo import around_unet
from sdrt_export.demo.data import Dataset, draw_dataset, load_dataset
from sdrt_export.demo.scoring import held_out_prompts
from sdrt_export.demo.train_compose import train_compose
from sdrt_export.demo.train_unet import train_unet

CHECKPOINT = Path(sdrt_export.__file__).parent / "demo" / "checkpoint"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    draw_dataset(folder, singles=300, pairs=100, seed=0)
    return load_dataset(folder)


@pytest.fixture(scope="module")
def latents(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random ones: two steps need none that mean anything."""
    path = tmp_path_factory.mktemp("latents") / "latents.npy"
    rng = np.random.default_rng(0)
    np.save(path, rng.standard_normal((len(data.scenes), 4, 8, 8)).astype(np.float32))
    return path


@pytest.fixture
def folder(latents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder, as the stages before leave it; few prompts are asked at the end."""
    for part in ("vae", "text_encoder", "tokenizer", "unet"):
        shutil.copytree(CHECKPOINT / part, tmp_path / part)
    for path in tmp_path.rglob("*.safetensors"):  # packaged in half precision
        save_file({name: value.float() for name, value in load_file(path).items()}, path, {"format": "pt"})
    config = tmp_path / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}))
    shutil.copy(latents, tmp_path)
    monkeypatch.setattr(around_unet, "held_out_prompts", lambda **_: held_out_prompts(one=2, sides=1, two=1))
    return tmp_path


def unet_of(folder: Path) -> dict[str, torch.Tensor]:
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    return dict(unet.state_dict())


@pytest.mark.parametrize("train", [train_unet, train_compose])
def test_a_stage_replaces_the_unet_and_scores_it(folder: Path, data: Dataset, train) -> None:
    before, lines = unet_of(folder), []
    train(data, folder, "cpu", 0, 2, lines.append)
    after = unet_of(folder)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(value.isfinite().all() for value in after.values())
    step, score = lines
    assert step.startswith("step 2/2  loss ")
    assert "colour_shape_background" in score
