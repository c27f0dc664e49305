"""The config of a U-Net, from the shapes of its tensors in the original layout."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

HEAD_SIZE = 64  # of every model since Stable Diffusion 2; the first has 8 heads, however wide they are
_BLOCK = re.compile(r"input_blocks\.(\d+)\.(.+)")
_DEPTH = re.compile(r"transformer_blocks\.(\d+)\.")


class UnevenError(ValueError):
    """The blocks of one level differ, which no config says."""


@dataclass(frozen=True)
class _Block:
    channels: int
    depth: int


def unet_config(shapes: Shapes, *, heads: int | None) -> dict[str, Any]:
    """What of UNet2DConditionModel's config is visible. shapes: by key, behind `model.diffusion_model.`.

    heads: attention heads on every level; None if each head has 64 channels.
    Raises KeyError with the name of a tensor that should be there, IndexError if one has too few axes,
    UnevenError for what no config says.
    """
    levels = _levels(shapes)
    channels = [level[0].channels for level in levels]
    depths = [level[0].depth for level in levels]
    attending = next((key for key in shapes if key.endswith(".attn2.to_k.weight")), "attn2.to_k.weight")
    projection = attending.split(".transformer_blocks.")[0] + ".proj_in.weight"
    config: dict[str, Any] = {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "layers_per_block": len(levels[0]),
        "block_out_channels": channels,
        "down_block_types": [f"{'CrossAttn' if depth else ''}DownBlock2D" for depth in depths],
        "up_block_types": [f"{'CrossAttn' if depth else ''}UpBlock2D" for depth in reversed(depths)],
        # the last entry is also that of the block in the middle
        "transformer_layers_per_block": [*(depth or 1 for depth in depths[:-1]), _middle_depth(shapes) or 1],
        "cross_attention_dim": shapes[attending][1],
        "attention_head_dim": heads or [width // HEAD_SIZE for width in channels],
        "use_linear_projection": len(shapes[projection]) == 2,
    }
    if "label_emb.0.0.weight" in shapes:
        config["projection_class_embeddings_input_dim"] = shapes["label_emb.0.0.weight"][1]
    if "time_embed.cond_proj.weight" in shapes:
        config["time_cond_proj_dim"] = shapes["time_embed.cond_proj.weight"][1]
    return config


def _levels(shapes: Shapes) -> list[list[_Block]]:
    """Residual blocks of the way down, level by level; all of a level are alike."""
    inside: dict[int, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for key, shape in shapes.items():
        if match := _BLOCK.fullmatch(key):
            inside[int(match[1])][match[2]] = shape
    levels: list[list[_Block]] = [[]]
    for number in sorted(inside)[1:]:
        block = inside[number]
        if "0.op.weight" in block:
            levels.append([])
        elif "0.out_layers.3.weight" in block:
            levels[-1].append(_Block(block["0.out_layers.3.weight"][0], _depth(block)))
        else:
            raise KeyError(f"input_blocks.{number}.0.out_layers.3.weight")
    if any(len(level) != len(levels[0]) or len(set(level)) != 1 for level in levels):
        raise UnevenError
    return levels


def _depth(keys: Mapping[str, object]) -> int:
    return len({found[1] for key in keys if (found := _DEPTH.search(key))})


def _middle_depth(shapes: Shapes) -> int:
    return _depth({key: None for key in shapes if key.startswith("middle_block.")})
