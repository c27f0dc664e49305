"""What `sdrt export` accepts as a source, and what it says to the rest."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdrt.errors import ExportError, InputError
from sdrt_export.sources import open_source

UNET = "unet/diffusion_pytorch_model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny, tmp_path / "copy")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def failure(folder: Path) -> str:
    """The message of an export of `folder`, up to and with loading every component."""
    with pytest.raises(ExportError) as raised:
        checkpoint = open_source(str(folder))
        for component in checkpoint.parameters:
            checkpoint.weights(component)
    message = str(raised.value)
    assert "\n" not in message
    return message


class Bomb:
    """A pickle that leaves a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.bin", "unet/model.ckpt", UNET])
def test_pickles_are_refused_and_not_run(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / UNET).unlink()
    (copy / name).write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    assert "pickle" in failure(copy)
    assert not (tmp_path / "ran").exists()


def test_zipped_pickle_renamed_is_refused(copy: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(1)}, copy / UNET)
    assert "is a pickle by another name" in failure(copy)


@pytest.mark.parametrize("size", [0, 4, 5000, -1])
def test_truncated_weights_are_named(copy: Path, size: int) -> None:
    data = (copy / UNET).read_bytes()
    (copy / UNET).write_bytes(data[:size])
    message = failure(copy)
    assert str(copy / UNET) in message and "download it again" in message


@pytest.mark.parametrize(
    "name", [UNET, "unet/config.json", "model_index.json", "scheduler/scheduler_config.json"]
)
def test_git_lfs_pointers_are_named(copy: Path, name: str) -> None:
    (copy / name).write_text(POINTER)
    message = failure(copy)
    assert str(copy / name) in message and "git lfs pull" in message


@pytest.mark.parametrize(
    "name",
    [
        "unet",
        "vae/config.json",
        "text_encoder/model.safetensors",
        "scheduler",
        "tokenizer",
        "model_index.json",
    ],
)
def test_missing_parts_are_named(copy: Path, name: str) -> None:
    path = copy / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    message = failure(copy)
    assert str(path.parent if path.suffix == ".safetensors" else path) in message or path.name in message


def test_weights_that_do_not_fill_the_config_are_refused(copy: Path) -> None:
    weights = load_file(copy / UNET)
    weights["conv_in.weigth"] = weights.pop("conv_in.weight")
    save_file(weights, copy / UNET, {"format": "pt"})
    assert "conv_in.weight" in failure(copy)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        (
            "model_index.json",
            {"_class_name": "StableDiffusion3Pipeline", "unet": [None, None]},
            "expected a UNet2DConditionModel",
        ),
        (
            "model_index.json",
            {"transformer": ["diffusers", "SD3Transformer2DModel"]},
            "whose transformer ['diffusers', 'SD3Transformer2DModel'] is not supported",
        ),
        ("model_index.json", {"unet": ["my_code", "MyUNet"]}, "expected a UNet2DConditionModel"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "with a text_encoder_2"),
        ("unet/config.json", {"addition_embed_type": "image"}, "addition_embed_type 'image'"),
        ("unet/config.json", {"in_channels": 7}, "takes 7 channels"),
        ("unet/config.json", {"cross_attention_dim": 64}, "expects text of width 64"),
        ("unet/config.json", {"out_channels": 8}, "the variance"),
        ("unet/config.json", {"class_embed_type": "timestep"}, "class_embed_type"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "sigmoid"}, "sigmoid"),
        ("scheduler/scheduler_config.json", {"clip_sample": True}, "clip_sample"),
        ("model_index.json", {"scheduler": ["diffusers", "UNet2DModel"]}, "no sampler for 'UNet2DModel'"),
    ],
)
def test_other_families_are_told(copy: Path, name: str, changes: dict[str, Any], words: str) -> None:
    edit(copy / name, **changes)
    assert words in failure(copy)


def test_broken_json_is_named(copy: Path) -> None:
    (copy / "unet" / "config.json").write_text("{")
    assert f"{copy / 'unet' / 'config.json'} is not valid JSON" in failure(copy)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nobody/nothing/at-all", "name/name"),
        ("random:sd99", "random:sd15"),
        ("/nowhere/at/all", "no folder"),
    ],
)
def test_other_sources_are_told(source: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_source(source)


def test_settings_come_from_the_configs(tiny: Path) -> None:
    configs = open_source(str(tiny)).configs
    assert (configs.defaults.width, configs.defaults.height) == (64, 64)
    assert (configs.defaults.steps, configs.defaults.guidance_scale, configs.defaults.sampler) == (
        20,
        7.5,
        "ddim",
    )
    assert configs.vae_settings.scaling_factor == 0.18215
    assert configs.vae_settings.scale_factor == 8
    assert configs.schedule.set_alpha_to_one is False


@pytest.mark.parametrize(
    ("scheduler", "sampler", "spacing"),
    [
        ("EulerDiscreteScheduler", "euler", "linspace"),
        ("DPMSolverMultistepScheduler", "dpmpp_2m", "linspace"),
        ("PNDMScheduler", "pndm", "leading"),
    ],
)
def test_sampler_follows_the_scheduler(copy: Path, scheduler: str, sampler: str, spacing: str) -> None:
    config = {"_class_name": scheduler, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}
    config |= {"skip_prk_steps": True}  # PNDM's; the others do not read it
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    edit(copy / "model_index.json", scheduler=["diffusers", scheduler])
    configs = open_source(str(copy)).configs
    assert configs.defaults.sampler == sampler
    assert configs.schedule.timestep_spacing == spacing
    assert configs.schedule.prediction_type == "v_prediction"


def test_scheduler_is_the_one_that_the_index_names(copy: Path) -> None:
    """Of the config of another class diffusers takes what this one reads."""
    from diffusers import EulerDiscreteScheduler

    edit(copy / "model_index.json", scheduler=["diffusers", "EulerDiscreteScheduler"])
    built = EulerDiscreteScheduler.from_pretrained(copy, subfolder="scheduler").config
    configs = open_source(str(copy)).configs
    assert configs.defaults.sampler == "euler"
    for field in ("beta_start", "beta_schedule", "timestep_spacing", "steps_offset", "final_sigmas_type"):
        assert getattr(configs.schedule, field) == built[field], field


def test_checkpoint_brings_its_own_defaults(copy: Path) -> None:
    defaults = {"width": 128, "height": 96, "steps": 25, "guidance_scale": 2.0, "sampler": "euler"}
    (copy / "sdrt_defaults.json").write_text(json.dumps(defaults))
    made = open_source(str(copy)).configs.defaults
    assert {name: getattr(made, name) for name in defaults} == defaults
    (copy / "sdrt_defaults.json").write_text('{"cfg": 2}')
    assert "cfg" in failure(copy)


def test_sharded_and_fp16_weights_are_found(copy: Path) -> None:
    (copy / UNET).rename(copy / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    assert "conv_in.weight" in open_source(str(copy)).weights("unet")
    weights = load_file(copy / "vae" / "diffusion_pytorch_model.safetensors")
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {}}
    for number, names in enumerate((sorted(weights)[::2], sorted(weights)[1::2]), start=1):
        shard = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in names}, copy / "vae" / shard, {"format": "pt"})
        index["weight_map"] |= dict.fromkeys(names, shard)
    (copy / "vae" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    checkpoint = open_source(str(copy))
    assert checkpoint.parameters["vae"] == sum(value.numel() for value in weights.values())
    read = checkpoint.weights("vae")
    assert all(torch.equal(read[name], value) for name, value in weights.items())
