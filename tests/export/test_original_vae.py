"""Another VAE for a checkpoint, from whatever it comes in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import original_layout
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from sdrt.errors import ExportError, InputError
from sdrt_export.checkpoint import Checkpoint
from sdrt_export.original import with_vae
from sdrt_export.sources import open_source


@pytest.fixture(scope="module")
def checkpoint(tiny: Path) -> Checkpoint:
    return open_source(str(tiny))


@pytest.fixture
def other(checkpoint: Checkpoint) -> AutoencoderKL:
    """A VAE of the same build with other weights."""
    torch.manual_seed(1)
    return AutoencoderKL.from_config(dict(checkpoint.configs.vae))


def original(vae: AutoencoderKL) -> dict[str, torch.Tensor]:
    return {key: value.clone().contiguous() for key, value in original_layout.vae_state(vae).items()}


def in_checkpoint(vae: AutoencoderKL, folder: Path) -> Path:
    state = original_layout.prefixed("first_stage_model.", original(vae)) | {"betas": torch.zeros(2)}
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


def alone(vae: AutoencoderKL, folder: Path) -> Path:
    save_file(original(vae) | {"loss.logvar": torch.zeros(1)}, folder / "vae.safetensors")
    return folder / "vae.safetensors"


def pickled(vae: AutoencoderKL, folder: Path) -> Path:
    torch.save({"state_dict": original(vae) | {"model_ema.decay": torch.zeros(1)}}, folder / "vae.pt")
    return folder / "vae.pt"


def in_diffusers_names(vae: AutoencoderKL, folder: Path) -> Path:
    vae.save_pretrained(folder)
    return folder / "diffusion_pytorch_model.safetensors"


def in_first_diffusers_names(vae: AutoencoderKL, folder: Path) -> Path:
    pairs = (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn"))
    state = {}
    for name, value in vae.state_dict().items():
        for new, old in pairs:
            name = name.replace(new, old)
        state[name] = value
    save_file(state, folder / "old.safetensors")
    return folder / "old.safetensors"


def as_folder(vae: AutoencoderKL, folder: Path) -> Path:
    vae.save_pretrained(folder)
    return folder


def in_pipeline_folder(vae: AutoencoderKL, folder: Path) -> Path:
    vae.save_pretrained(folder / "vae")
    return folder


@pytest.mark.parametrize(
    "save",
    [
        in_checkpoint,
        alone,
        pickled,
        in_diffusers_names,
        in_first_diffusers_names,
        as_folder,
        in_pipeline_folder,
    ],
)
def test_vae_is_the_other_one(
    save: Callable[[AutoencoderKL, Path], Path],
    checkpoint: Checkpoint,
    other: AutoencoderKL,
    tmp_path: Path,
) -> None:
    changed = with_vae(checkpoint, save(other, tmp_path), allow_pickle=save is pickled)
    weights = changed.weights("vae")
    for name, value in other.named_parameters():
        assert torch.equal(weights[name], value), name
    assert changed.weights("unet") is checkpoint.weights("unet")
    assert changed.fingerprint != checkpoint.fingerprint
    assert changed.configs.vae_settings == checkpoint.configs.vae_settings


def test_pickle_needs_permission(checkpoint: Checkpoint, other: AutoencoderKL, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--allow-pickle"):
        with_vae(checkpoint, pickled(other, tmp_path), allow_pickle=False)


@pytest.mark.parametrize("save", [alone, in_diffusers_names, as_folder])
def test_other_build_is_refused(
    save: Callable[[AutoencoderKL, Path], Path], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    wide = AutoencoderKL.from_config(dict(checkpoint.configs.vae) | {"block_out_channels": (8, 8, 16, 32)})
    with pytest.raises(ExportError, match=str(tmp_path)):
        with_vae(checkpoint, save(wide, tmp_path), allow_pickle=False)


def test_vae_of_another_family_is_refused(
    checkpoint: Checkpoint, other: AutoencoderKL, tmp_path: Path
) -> None:
    """Its shapes are the same; its latents are on another scale."""
    folder = as_folder(other, tmp_path)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": 0.13025}))
    with pytest.raises(ExportError, match=r"0\.13025.*0\.18215"):
        with_vae(checkpoint, folder, allow_pickle=False)


def test_vae_that_stays_within_fp16_says_so(
    checkpoint: Checkpoint, other: AutoencoderKL, tmp_path: Path
) -> None:
    folder = as_folder(other, tmp_path)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"force_upcast": False}))
    assert checkpoint.configs.vae["force_upcast"] is True
    assert with_vae(checkpoint, folder, allow_pickle=False).configs.vae["force_upcast"] is False


def test_what_has_no_vae_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    for path in (tmp_path / "a.safetensors", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            with_vae(checkpoint, path, allow_pickle=False)
