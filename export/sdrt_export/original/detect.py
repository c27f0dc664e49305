"""Which model an original file holds, from its keys and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sdrt.errors import ExportError

from ..architectures import ARCHITECTURES, REFINER, Architecture
from .places import UNET
from .tensors import Tensors

FIRST = UNET + "input_blocks.0.0.weight"
# A key that only one other kind of file has, or its start -> what that is.
_OTHERS = {
    "lora_unet_": "a LoRA; give it with --lora, beside its model",
    "lora_te": "a LoRA; give it with --lora, beside its model",
    "unet.down_blocks.": "a LoRA, or a U-Net alone; a LoRA goes with --lora, beside its model",
    "emb_params": "an embedding; give it with --textual-inversion, beside its model",
    "clip_g": "an embedding; give it with --textual-inversion, beside its model",
    "encoder.down.": "a VAE alone; give it with --vae, beside its model",
    "first_stage_model.": "a VAE alone; give it with --vae, beside its model",
    "control_model.": "a ControlNet, which sdrt does not support",
    "controlnet_cond_embedding.": "a ControlNet, which sdrt does not support",
    "model.diffusion_model.joint_blocks.": "Stable Diffusion 3, which sdrt does not support",
    "model.diffusion_model.double_blocks.": "Flux, which sdrt does not support",
    "double_blocks.": "Flux, which sdrt does not support",
    "down_blocks.": "a U-Net alone in diffusers' layout; give the folder that it comes from",
}
# The standard deviation of these biases, beyond which Stable Diffusion 2 predicts v. Nothing else in the file
# tells; ComfyUI goes by the same statistic (comfy/supported_models.py, SD20). --config decides otherwise.
_V_PREDICTION_DEVIATION = 0.09
_TELLTALE = UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"


@dataclass(frozen=True, kw_only=True)
class Detected:
    """A family and what is special about this member of it.

    unet, scheduler: settings that replace those of the architecture's configs.
    """

    architecture: Architecture
    unet: Mapping[str, Any]
    scheduler: Mapping[str, Any]


def detect(tensors: Tensors, called: str) -> Detected:
    """Tell the family of an original checkpoint. called: the file, in messages.

    Raises ExportError, saying what the file is, if it is no model that sdrt exports.
    """
    if FIRST not in tensors:
        raise ExportError(f"{called} is {_other(tensors)}")
    if "edm_mean" in tensors:
        raise ExportError(f"{called} was trained with EDM's preconditioning, which sdrt does not support")
    unet: dict[str, Any] = {"in_channels": tensors.shape(FIRST)[1]}
    embedding = UNET + "time_embed.cond_proj.weight"
    if embedding in tensors:
        unet["time_cond_proj_dim"] = tensors.shape(embedding)[1]
    name = _text_encoders(tensors, called)
    scheduler: dict[str, Any] = {}
    if name == "sd21" and not _predicts_v(tensors):
        unet["sample_size"] = 64  # the base model, of 512x512
        scheduler["prediction_type"] = "epsilon"
    if "v_pred" in tensors:
        scheduler["prediction_type"] = "v_prediction"
    if "ztsnr" in tensors:
        scheduler["rescale_betas_zero_snr"] = True
    architecture = REFINER if name == "refiner" else ARCHITECTURES[name]
    return Detected(architecture=architecture, unet=unet, scheduler=scheduler)


def _text_encoders(tensors: Tensors, called: str) -> str:
    keys = list(tensors)
    for start, name in (
        ("conditioner.embedders.1.model.", "sdxl"),
        ("conditioner.embedders.0.model.", "refiner"),
        ("cond_stage_model.model.", "sd21"),
        ("cond_stage_model.transformer.", "sd15"),
    ):
        if any(key.startswith(start) for key in keys):
            return name
    raise ExportError(f"{called} has a U-Net and no text encoder; take the full version of the model")


def _predicts_v(tensors: Tensors) -> bool:
    if _TELLTALE not in tensors:
        return True
    return float(tensors[_TELLTALE].to(torch.float32).std(correction=0)) > _V_PREDICTION_DEVIATION


def _other(tensors: Tensors) -> str:
    keys = list(tensors)
    for start, kind in _OTHERS.items():
        if any(key.startswith(start) for key in keys):
            return kind
    some = ", ".join(sorted(keys)[:3])
    return (
        f"no checkpoint in the original layout: it has no {FIRST}, but {some} ..; "
        "Stable Diffusion 1, 2 and XL in one file, or a folder in diffusers layout are supported"
    )
