"""Full-size models: each parameter has its place in the original layout, and each key its parameter."""

from __future__ import annotations

import json
import os
from typing import Any

import original_layout
import pytest
import torch

from sdrt.errors import InputError
from sdrt_export.original import open_single_file
from sdrt_export.original.detect import detect
from sdrt_export.original.family import settings_of_family
from sdrt_export.original.names import find_places, left_over
from sdrt_export.original.spellings import with_plain_keys
from sdrt_export.random_models import ARCHITECTURES, Architecture

SDXL = ARCHITECTURES["sdxl"].options
REFINER = Architecture(
    options={
        "text_encoder_2": SDXL["text_encoder_2"],
        "unet": {
            **SDXL["unet"],
            "cross_attention_dim": 1280,
            "block_out_channels": (384, 768, 1536, 1536),
            "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2, "DownBlock2D"),
            "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
            "transformer_layers_per_block": (1, 4, 4, 4),
            "attention_head_dim": (6, 12, 24, 24),
            "projection_class_embeddings_input_dim": 2560,
        },
        "vae": SDXL["vae"],
    },
    scheduler=ARCHITECTURES["sdxl"].scheduler,
)
FAMILIES = {
    "sd1": ("stable-diffusion-1", ARCHITECTURES["sd15"]),
    "sd2": ("stable-diffusion-2", ARCHITECTURES["sd21"]),
    "sdxl": ("stable-diffusion-xl", ARCHITECTURES["sdxl"]),
    "sdxl-refiner": ("stable-diffusion-xl-refiner", REFINER),
}


class ShapesOnly:
    """A file of which only the header can be read, beside the norm that tells Stable Diffusion 2's apart."""

    path = "model.safetensors"

    def __init__(self, state: dict[str, Any], spread: float = 0.1) -> None:
        self._state = state
        self._spread = spread

    def __iter__(self):
        return iter(self._state)

    def shape(self, key):
        return tuple(self._state[key].shape)

    def __getitem__(self, key):
        assert key.endswith("norm1.bias")
        return self._spread * torch.tensor([-1.0, 1.0])


@pytest.fixture(scope="module", params=FAMILIES)
def full(request):
    """A family, its empty full-size components, and its keys as the walk over the modules has them."""
    family, architecture = FAMILIES[request.param]
    with torch.device("meta"):
        components = {name: architecture.build(name) for name in architecture.options}
        state = original_layout.state_of(request.param, components)
    return request.param, family, components, state


def test_family_and_components_are_found(full):
    _, family, components, state = full
    detected = detect("model.safetensors", {key: tuple(value.shape) for key, value in state.items()})
    assert detected.family == family
    assert set(detected.parts) == set(components)


def test_places_are_where_the_modules_are(full):
    name, _, components, state = full
    detected = detect("model.safetensors", {key: tuple(value.shape) for key, value in state.items()})
    reached = set()
    for component, part in detected.parts.items():
        parameters = dict(components[component].named_parameters())
        places = find_places(part, parameters, state.keys())
        assert list(places) == list(parameters)
        for parameter, place in places.items():
            stored = tuple(state[place.key].shape)
            assert place.shape(stored) == tuple(parameters[parameter].shape), parameter
        reached |= {place.key for place in places.values()}
        assert left_over(part, places, state) == []
    rest = state.keys() - reached
    spare = {key for key in rest if key.startswith("cond_stage_model.model.transformer.resblocks.23.")}
    assert len(spare) == (12 if name == "sd2" else 0)
    assert {key.rpartition(".")[2] for key in rest - spare} <= {
        "position_ids",
        "logit_scale",
        "text_projection",
    }


def test_settings_are_those_of_the_published_model(full):
    name, family, _, state = full
    file = ShapesOnly(state)
    detected = detect("model.safetensors", {key: file.shape(key) for key in file})
    configs = settings_of_family(file, detected).configs
    assert configs.family == family
    for component, options in FAMILIES[name][1].options.items():
        made = configs.text_encoders.get(component) or getattr(configs, component)
        for option in options.keys() - {"pad_token_id"}:
            expected = options[option]
            assert made[option] == (list(expected) if isinstance(expected, tuple) else expected), option
    assert configs.schedule.prediction_type == ("v_prediction" if name == "sd2" else "epsilon")
    size = {"sd1": 512, "sd2": 768}.get(name, 1024)
    assert (configs.defaults.width, configs.defaults.height) == (size, size)


def test_stable_diffusion_2_base_predicts_noise_at_512(full):
    name, _, _, state = full
    file = ShapesOnly(state, spread=0.05)
    detected = detect("model.safetensors", {key: file.shape(key) for key in file})
    configs = settings_of_family(file, detected).configs
    assert configs.schedule.prediction_type == "epsilon"
    if name == "sd2":
        assert configs.defaults.width == 512


def test_fine_tunes_say_what_they_predict(full):
    _, _, _, state = full
    file = ShapesOnly({**state, "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)})
    detected = detect("model.safetensors", {key: file.shape(key) for key in file})
    schedule = settings_of_family(file, detected).configs.schedule
    assert schedule.prediction_type == "v_prediction" and schedule.rescale_betas_zero_snr


def test_moving_averages_without_dots_are_told_apart(full):
    _, _, _, state = full
    unet = {key: value for key, value in state.items() if key.startswith("model.diffusion_model.")}
    guided = "model.diffusion_model.time_embed.cond_proj.weight"
    flat = {f"model_ema.{key.removeprefix('model.').replace('.', '')}": key for key in (*unet, guided)}
    assert len(flat) == len(unet) + 1
    file = with_plain_keys(ShapesOnly(dict.fromkeys(["model_ema.decay", *flat])))
    assert list(file) == ["model_ema.decay", *flat.values()]


@pytest.mark.parametrize(("channels", "picture"), [(4, None), (8, "edit"), (9, "inpainting")])
def test_pictures_that_the_unet_is_shown(channels, picture, full):
    _, _, _, state = full
    first = "model.diffusion_model.input_blocks.0.0.weight"
    width = len(state[first])
    file = ShapesOnly({**state, first: torch.empty(width, channels, 3, 3, device="meta")})
    detected = detect("model.safetensors", {key: file.shape(key) for key in file})
    configs = settings_of_family(file, detected).configs
    assert configs.unet["in_channels"] == channels
    assert configs.conditioning.picture == picture


@pytest.mark.parametrize("mark", ["edm_mean", "edm_vpred.sigma_max"])
def test_noise_of_edm_is_refused(mark, full):
    _, _, _, state = full
    with pytest.raises(InputError, match="EDM"):
        detect("model.safetensors", {**{key: tuple(value.shape) for key, value in state.items()}, mark: ()})


@pytest.mark.slow
def test_full_size_file_needs_nothing_beside_it(full, tmp_path):
    """A sparse file: every weight is zero and takes no room."""
    _, family, components, state = full
    path = tmp_path / "model.safetensors"
    header, end = {}, 0
    for key, value in state.items():
        size = 2 * value.numel()
        header[key] = {"dtype": "F16", "shape": list(value.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)
    checkpoint = open_single_file(path, source=str(path), config=None, allow_pickle=False)
    assert checkpoint.configs.family == family
    for component, model in components.items():
        weights = checkpoint.weights(component)
        assert checkpoint.parameters[component] == sum(value.numel() for value in model.parameters())
        assert {name: weights.shape(name) for name, _ in model.named_parameters()} == {
            name: tuple(value.shape) for name, value in checkpoint.build(component).named_parameters()
        }
    assert weights["quant_conv.weight"].dtype == torch.float16
