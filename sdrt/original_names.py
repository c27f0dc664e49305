"""Names of the U-Net's parameters in the original layout, which model sites and LoRA files use.

The first Stable Diffusion numbered its blocks in one row (`input_blocks.4.1.proj_in.weight`); diffusers sorts
them by level and kind (`down_blocks.1.attentions.0.proj_in.weight`). The numbers follow from the names alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_WHOLE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "time_embedding.cond_proj": "time_embed.cond_proj",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def original_unet_names(names: Iterable[str]) -> dict[str, str]:
    """Parameter names of a whole UNet2DConditionModel -> their names behind `model.diffusion_model.`.

    A name that has none in the original layout is left out.
    """
    known = list(names)
    blocks = [match.groups() for name in known if (match := _BLOCK.match(name))]
    resnets = [int(j) for way, _, kind, j, _ in blocks if (way, kind) == ("down", "resnets")]
    layers = 1 + max(resnets, default=0)
    attending = {int(i) for way, i, kind, _, _ in blocks if (way, kind) == ("up", "attentions")}
    found = {name: _original(name, layers, attending) for name in known}
    return {name: original for name, original in found.items() if original is not None}


def _original(name: str, layers: int, attending: set[int]) -> str | None:
    match = _BLOCK.match(name)
    if match is None:
        whole = next((start for start in _WHOLE if name.startswith(start + ".")), None)
        return None if whole is None else f"{_WHOLE[whole]}.{_inside(name[len(whole) + 1 :])}"
    way, level, kind, j, rest = match.groups()
    first = int(level) * (layers + 1)
    match way, kind:
        case "down", "downsamplers":
            return f"input_blocks.{first + layers + 1}.0.{rest.replace('conv.', 'op.', 1)}"
        case "down", _:
            return f"input_blocks.{first + int(j) + 1}.{int(kind == 'attentions')}.{_inside(rest)}"
        case _, "upsamplers":
            return f"output_blocks.{first + layers}.{1 + (int(level) in attending)}.{rest}"
    return f"output_blocks.{first + int(j)}.{int(kind == 'attentions')}.{_inside(rest)}"


def _inside(rest: str) -> str:
    """What stands behind the number of a block: only residual blocks are named otherwise."""
    first, _, last = rest.partition(".")
    return f"{_RESNET[first]}.{last}" if first in _RESNET else rest
