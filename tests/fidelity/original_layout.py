"""Small checkpoints in the original layout, in one file. diffusers reads them, see test_single_files.py."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from sdrt_export.folder import open_folder
from sdrt_export.original.places import (
    clip_places,
    open_clip_places,
    unet_places,
    vae_places,
)

# What such files hold beside the networks.
BESIDES = {
    "alphas_cumprod": torch.ones(1000),
    "model_ema.decay": torch.ones(()),
    "model_ema.diffusion_modelout2bias": torch.ones(4),
    "first_stage_model.loss.logvar": torch.ones(()),
}
TEXT = {
    "sd1": {"text_encoder": (clip_places, "cond_stage_model.transformer.")},
    "sd2": {"text_encoder": (open_clip_places, "cond_stage_model.model.")},
    "sdxl": {
        "text_encoder": (clip_places, "conditioner.embedders.0.transformer."),
        "text_encoder_2": (open_clip_places, "conditioner.embedders.1.model."),
    },
    "sdxl-refiner": {"text_encoder_2": (open_clip_places, "conditioner.embedders.0.model.")},
}


def original_tensors(
    folder: Path, family: str, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """The tensors of a diffusers folder by their original keys."""
    checkpoint = open_folder(folder, source="test")
    tensors = dict(BESIDES)
    for component in checkpoint.parameters:
        names = list(checkpoint.build(component).state_dict())
        if component == "unet":
            places = unet_places(names)
        elif component == "vae":
            places = vae_places(names)
        else:
            by_layout, prefix = TEXT[family.partition("-inp")[0].partition("-edit")[0]][component]
            places = by_layout(names, prefix)
        weights = checkpoint.weights(component)
        thirds: dict[str, dict[int, torch.Tensor]] = {}
        for name in names:
            place, value = places[name], weights[name].to(dtype)
            if component == "vae" and "attn_1" in place.key and value.ndim == 2:
                value = value[..., None, None]  # 1x1 convolutions
            if place.third is not None:
                thirds.setdefault(place.key, {})[place.third] = value
            else:
                tensors[place.key] = value.T.contiguous() if place.transposed else value
        tensors |= {key: torch.cat([parts[k] for k in range(3)]) for key, parts in thirds.items()}
    return tensors


def write_original(folder: Path, family: str, path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write them as one safetensors file."""
    save_file(original_tensors(folder, family, dtype), path)
    return path
