"""The config of a U-Net, from the shapes of its tensors in the original layout."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

HEAD_SIZE = 64  # of every model since Stable Diffusion 2; the first has 8 heads, however wide they are
_DEPTH = re.compile(r"transformer_blocks\.(\d+)\.")


class UnevenError(ValueError):
    """The blocks of one level differ in a way that no config says."""


@dataclass(frozen=True)
class _Block:
    """A residual layer. depth: of the transformer behind it, 0 if there is none."""

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
    attending = next((key for key in shapes if key.endswith(".attn2.to_k.weight")), "attn2.to_k.weight")
    projection = attending.split(".transformer_blocks.")[0] + ".proj_in.weight"
    config: dict[str, Any] = {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "layers_per_block": len(levels[0]),
        "block_out_channels": channels,
        **_transformers(levels, shapes),
        "cross_attention_dim": shapes[attending][1],
        "attention_head_dim": heads or [width // HEAD_SIZE for width in channels],
        "use_linear_projection": len(shapes[projection]) == 2,
    }
    if "label_emb.0.0.weight" in shapes:
        config["projection_class_embeddings_input_dim"] = shapes["label_emb.0.0.weight"][1]
    if "time_embed.cond_proj.weight" in shapes:
        config["time_cond_proj_dim"] = shapes["time_embed.cond_proj.weight"][1]
    return config


def _transformers(levels: list[list[_Block]], shapes: Shapes) -> dict[str, Any]:
    """Kinds of the blocks, and depths of their transformers: a number for each level, or for each layer."""
    down = [[block.depth for block in level] for level in levels]
    layers = 1 + len(levels[0])
    inside = _blocks("output_blocks", shapes)
    rows = [_depth(inside[number]) for number in sorted(inside)]
    up = [rows[start : start + layers] for start in range(0, len(rows), layers)]
    if any((0 in level) != (level == [0] * len(level)) for level in (*down, *up)):
        raise UnevenError
    middle = _depth({key: None for key in shapes if key.startswith("middle_block.")})
    config: dict[str, Any] = {
        "down_block_types": [f"{'CrossAttn' if any(level) else ''}DownBlock2D" for level in down],
        "up_block_types": [f"{'CrossAttn' if any(level) else ''}UpBlock2D" for level in up],
    }
    # pruned models have no block in the middle, or one without its transformer
    if not any(key.startswith("middle_block.") for key in shapes):
        config["mid_block_type"] = None
    elif not middle:
        config["mid_block_type"] = "UNetMidBlock2D"
    even = all(len(set(level)) == 1 for level in (*down, *up))
    if even and [level[0] for level in reversed(up)] == [level[0] for level in down]:
        depths: list[int | list[int]] = [level[0] or 1 for level in down]
    else:
        depths = [level if any(level) else 1 for level in down]
        config["reverse_transformer_layers_per_block"] = [level if any(level) else 1 for level in up]
    if middle:  # it is as deep as the first layer of the last entry
        if any(down[-1]) and down[-1][0] != middle:
            raise UnevenError
        depths[-1] = depths[-1] if any(down[-1]) else middle
    config["transformer_layers_per_block"] = depths
    return config


def _blocks(side: str, shapes: Shapes) -> dict[int, dict[str, tuple[int, ...]]]:
    """What the blocks of one side hold, by their numbers."""
    inside: dict[int, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for key, shape in shapes.items():
        if match := re.fullmatch(rf"{side}\.(\d+)\.(.+)", key):
            inside[int(match[1])][match[2]] = shape
    return inside


def _levels(shapes: Shapes) -> list[list[_Block]]:
    """Residual layers of the way down, level by level; all of a level are equally wide."""
    inside = _blocks("input_blocks", shapes)
    levels: list[list[_Block]] = [[]]
    for number in sorted(inside)[1:]:
        block = inside[number]
        if "0.op.weight" in block:
            levels.append([])
        elif "0.out_layers.3.weight" in block:
            levels[-1].append(_Block(block["0.out_layers.3.weight"][0], _depth(block)))
        else:
            raise KeyError(f"input_blocks.{number}.0.out_layers.3.weight")
    if any(len(level) != len(levels[0]) or len({one.channels for one in level}) != 1 for level in levels):
        raise UnevenError
    return levels


def _depth(keys: Mapping[str, object]) -> int:
    return len({found[1] for key in keys if (found := _DEPTH.search(key))})
