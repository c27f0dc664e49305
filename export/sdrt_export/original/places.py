"""Where in an original file each parameter of a component is.

The names of the four networks in such files:

    U-Net               model.diffusion_model.input_blocks ..         see sdrt/original_names.py
    VAE                 first_stage_model.encoder.down.0.block ..
    text encoder of 1   cond_stage_model.transformer.text_model ..    as transformers has had it
    of 2                cond_stage_model.model.transformer ..         as OpenCLIP has it
    text encoders       conditioner.embedders.0.transformer ..        the first as in 1,
    of XL               conditioner.embedders.1.model ..              the second as in 2
    of its refiner      conditioner.embedders.0.model ..
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sdrt.original_names import original_unet_names

UNET, VAE = "model.diffusion_model.", "first_stage_model."
_THIRDS = {"q": 0, "k": 1, "v": 2}


@dataclass(frozen=True)
class Place:
    """A parameter's key in the file.

    third: OpenCLIP keeps query, key and value in one tensor, one after the other along its first axis.
    transposed: OpenCLIP multiplies by its projection from the right.
    """

    key: str
    third: int | None = None
    transposed: bool = False


def unet_places(names: Iterable[str], prefix: str = UNET) -> dict[str, Place]:
    """Places of the parameters of a UNet2DConditionModel."""
    return {name: Place(prefix + original) for name, original in original_unet_names(names).items()}


def vae_places(names: Iterable[str], prefix: str = VAE) -> dict[str, Place]:
    """Places of the parameters of an AutoencoderKL."""
    known = list(names)
    levels = 1 + max(
        (int(match[1]) for name in known if (match := re.match(r"decoder\.up_blocks\.(\d+)\.", name))),
        default=0,
    )
    return {name: Place(prefix + _vae_key(name, levels)) for name in known}


def clip_places(names: Iterable[str], prefix: str) -> dict[str, Place]:
    """Places of the parameters of a text encoder as transformers has named them so far."""
    return {
        name: Place(prefix + ("" if name.startswith("text_projection") else "text_model.") + _inner(name))
        for name in names
    }


def open_clip_places(names: Iterable[str], prefix: str) -> dict[str, Place]:
    """Places of the parameters of a text encoder in the layout of OpenCLIP."""
    return {name: _open_clip_place(_inner(name), prefix) for name in names}


_VAE_PARTS = (
    (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
    (r"\.down_blocks\.(\d+)\.resnets\.(\d+)\.", r".down.\1.block.\2."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
    (r"\.mid_block\.attentions\.0\.to_([qkv])\.", r".mid.attn_1.\1."),
    (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
)


def _vae_key(name: str, levels: int) -> str:
    for pattern, original in _VAE_PARTS:
        name = re.sub(pattern, original, name)
    # the decoder's levels are numbered by their size and not by their turn
    match = re.match(r"decoder\.up_blocks\.(\d+)\.(?:resnets\.(\d+)|upsamplers\.0)\.(.+)", name)
    if match is None:
        return name
    level = levels - 1 - int(match[1])
    inside = "upsample" if match[2] is None else f"block.{match[2]}"
    return f"decoder.up.{level}.{inside}.{match[3]}"


_OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def _open_clip_place(name: str, prefix: str) -> Place:
    if name == "text_projection.weight":
        return Place(prefix + "text_projection", transposed=True)
    match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if match is None:
        return Place(prefix + _OPEN_CLIP[name])
    block, inside, kind = f"{prefix}transformer.resblocks.{match[1]}.", match[2], match[3]
    if inside in _OPEN_CLIP_LAYER:
        return Place(f"{block}{_OPEN_CLIP_LAYER[inside]}.{kind}")
    return Place(f"{block}attn.in_proj_{kind}", third=_THIRDS[inside.removeprefix("self_attn.")[0]])


def _inner(name: str) -> str:
    return name.removeprefix("text_model.")
