"""Which family a file belongs to, and where its components are: seen from keys and shapes alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sdrt.errors import InputError
from sdrt.manifest import Family

from ..specs import Component
from .names import Part

Shapes = Mapping[str, tuple[int, ...]]

UNET = Part("model.diffusion_model.", "unet")
VAE = Part("first_stage_model.", "vae")
SUPPORTED = "sdrt exports Stable Diffusion 1, 2 and XL"


@dataclass(frozen=True, kw_only=True)
class Detected:
    """A family, and each of its components in the file."""

    family: Family
    parts: Mapping[Component, Part]


# The first key of a text encoder, and who has it there. Stable Diffusion 2 is also saved with XL's prefixes.
_CLIP_L_1 = Part("cond_stage_model.transformer.", "clip")
_CLIP_H_2 = Part("cond_stage_model.model.", "open_clip")
_CLIP_L_XL = Part("conditioner.embedders.0.transformer.", "clip")
_BIG_G_XL = Part("conditioner.embedders.1.model.", "open_clip")
_ALONE_XL = Part("conditioner.embedders.0.model.", "open_clip")


def detect(path: Path, shapes: Shapes) -> Detected:
    """Find the family of a checkpoint. shapes: of every tensor in the file, by key; path: for messages.

    Raises InputError, saying what the file is, if it is none of the supported families.
    """
    _refuse_others(path, shapes)
    conditioned = f"{UNET.prefix}label_emb.0.0.weight" in shapes
    if _has(shapes, _BIG_G_XL):
        return _detected("stable-diffusion-xl", {"text_encoder": _CLIP_L_XL, "text_encoder_2": _BIG_G_XL})
    if _has(shapes, _ALONE_XL) and conditioned:
        return _detected("stable-diffusion-xl-refiner", {"text_encoder_2": _ALONE_XL})
    if conditioned:
        raise InputError(f"{path} is of a kind that is told more than a prompt, as unCLIP is; {SUPPORTED}")
    if _has(shapes, _CLIP_L_1):
        return _detected("stable-diffusion-1", {"text_encoder": _CLIP_L_1})
    for part in (_CLIP_H_2, _ALONE_XL):
        if _has(shapes, part):
            return _detected("stable-diffusion-2", {"text_encoder": part})
    raise InputError(f"{path} has no text encoder beside its U-Net; take the whole checkpoint")


def _detected(family: Family, text_encoders: Mapping[Component, Part]) -> Detected:
    return Detected(family=family, parts={**text_encoders, "unet": UNET, "vae": VAE})


def _has(keys: Iterable[str], part: Part) -> bool:
    return any(key.startswith(part.prefix) for key in keys)


# Something in a key, and what a file is that has such keys. The first that fits counts: a LoRA names the
# blocks of its model, a ControlNet has a copy of half a U-Net.
_OTHERS = (
    (("lora_unet_", "lora_te", ".lora_", "lora_A", "lora_down", "hada_w1", "lokr_w1"), "a LoRA"),
    (("control_model.", "controlnet_cond_embedding.", "controlnet_blocks."), "a ControlNet"),
    (("motion_modules.",), "a motion module of AnimateDiff"),
    (("ip_adapter.", "image_proj."), "an IP-Adapter"),
    (("joint_blocks.",), "Stable Diffusion 3"),
    (("double_blocks.", "single_blocks."), "Flux or one of its kin"),
    (("clip_txt_mapper.", ".channelwise."), "Stable Cascade"),
    (("edm_mean",), "Playground 2.5, whose noise is that of EDM"),
    (("edm_vpred.",), "a model with the noise of EDM, as CosXL"),
    (("string_to_param", "emb_params"), "an embedding (textual inversion)"),
)
_IN_CHANNELS = {5: "a depth-to-image model", 7: "an upscaler"}


def _refuse_others(path: Path, shapes: Shapes) -> None:
    for marks, kind in _OTHERS:
        if any(mark in key for key in shapes for mark in marks):
            raise InputError(f"{path} is {kind}, no checkpoint that sdrt can export; {SUPPORTED}")
    first = shapes.get(f"{UNET.prefix}input_blocks.0.0.weight", ())
    if len(first) == 4 and first[1] in _IN_CHANNELS:
        raise InputError(
            f"{path} is {_IN_CHANNELS[first[1]]}, no checkpoint that sdrt can export; {SUPPORTED}"
        )
    if not any(key.startswith(f"{UNET.prefix}input_blocks.") for key in shapes):
        raise InputError(f"{path} is {_describe(shapes)}; {SUPPORTED}")


def _describe(shapes: Shapes) -> str:
    """What a file is that has no U-Net of the original layout under its usual prefix."""
    if {"clip_l", "clip_g"} & shapes.keys() or any(key.startswith("<") for key in shapes) or len(shapes) == 1:
        return "an embedding (textual inversion), no checkpoint"
    if any(key.startswith(("input_blocks.0.", "diffusion_model.input_blocks.0.")) for key in shapes):
        return "a U-Net alone; take the whole checkpoint, with text encoder and VAE"
    if any(key.startswith("down_blocks.0.resnets.") for key in shapes):
        return "a U-Net alone, in diffusers layout; give the folder that has model_index.json"
    if any(key.endswith("decoder.conv_in.weight") for key in shapes):
        return "a VAE alone; it can stand beside a checkpoint, with --vae"
    if any(".mlp.fc1." in key or "resblocks.0.mlp." in key for key in shapes):
        return "a text encoder alone; take the whole checkpoint"
    if any(key.startswith(UNET.prefix) for key in shapes):
        return "a checkpoint of another network than a U-Net"
    return "no checkpoint of Stable Diffusion"
