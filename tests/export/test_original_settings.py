"""What a file without configs is taken for."""

from __future__ import annotations

import original_layout
import pytest
import torch
from diffusers import UNet2DConditionModel

from sdrt_export.original.clip_tokenizer import END, clip_tokenizer
from sdrt_export.original.names import Part, find_places
from sdrt_export.original.unet_shapes import unet_config

# From the tokenizer of open_clip 3.3.0, which is CLIP's own.
KNOWN = {
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "Hello, World!": [3306, 267, 1002, 256],
    "漢字 naïve façade": [162, 120, 95, 35751, 501, 1097, 35689, 563, 778, 10067, 1928],
    "it's the émigré's 2nd 123 :-)": [585, 568, 518, 3459, 3736, 4166, 568, 273, 1764, 272, 273, 274, 4223],
    "": [],
}


@pytest.mark.parametrize("text", KNOWN)
def test_tokens_are_those_of_clip(text: str) -> None:
    assert clip_tokenizer(END)(text).input_ids == [49406, *KNOWN[text], 49407]


def test_padding_differs_between_encoders() -> None:
    """CLIP pads with its end token, OpenCLIP with token 0."""
    assert clip_tokenizer(END).pad_token_id == 49407
    assert clip_tokenizer("!").pad_token_id == 0
    assert len(clip_tokenizer("!")) == 49408
    assert clip_tokenizer("!")("a cat!").input_ids == [49406, 320, 2368, 0, 49407]


ATTENDING = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
}
PRUNED = {
    "BK-SDM-Small, tiny-sd": {**ATTENDING, "mid_block_type": None, "layers_per_block": 1},
    "SSD-1B": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": [1, [2, 2]],
        "reverse_transformer_layers_per_block": [[2, 1, 3], 1],
        "layers_per_block": 2,
    },
    "a middle of its own depth": {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "transformer_layers_per_block": (1, 3),
    },
}


@pytest.mark.parametrize("name", PRUNED)
def test_config_of_a_pruned_unet_follows_from_its_tensors(name: str) -> None:
    common = {"block_out_channels": (32, 64), "cross_attention_dim": 16, "norm_num_groups": 8}
    with torch.device("meta"):
        model = UNet2DConditionModel(**common, **PRUNED[name], attention_head_dim=8)
        state = original_layout.unet_state(model)
        read = unet_config({key: tuple(value.shape) for key, value in state.items()}, heads=8)
        again = UNet2DConditionModel(**{**read, "norm_num_groups": 8})
    shapes = {key: tuple(value.shape) for key, value in model.named_parameters()}
    assert {key: tuple(value.shape) for key, value in again.named_parameters()} == shapes
    places = find_places(Part("", "unet"), shapes, state.keys())
    assert {place.key for place in places.values()} == set(state)
