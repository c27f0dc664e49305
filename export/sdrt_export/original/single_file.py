"""A checkpoint in one file, opened without any network."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import CLIPTokenizer

from sdrt.errors import ExportError

from ..checkpoint import Checkpoint
from ..configs import TEXT_ENCODERS, TOKENIZERS, Config, Configs, read_configs
from ..folder import read_settings, settings_files
from ..parameters import Weights, build, check_weights, count
from ..specs import Component
from ..weights import fingerprint
from .clip_tokenizer import END, clip_tokenizer
from .detect import detect
from .places import UNET, VAE, Place, clip_places, open_clip_places, unet_places, vae_places
from .tensors import PlacedWeights, Tensors, open_tensors

# Starts of keys below the four networks' that are none of their parameters.
_NO_PARAMETERS = (
    "first_stage_model.loss.",
    "model.diffusion_model.__",
    # the last layer of OpenCLIP's text encoder, whose states Stable Diffusion 2 does not use
    "cond_stage_model.model.transformer.resblocks.23.",
    "cond_stage_model.model.text_projection",
    # parts of CLIP that compare texts with pictures
    "conditioner.embedders.0.transformer.text_projection.",
    "cond_stage_model.transformer.text_projection.",
)
_NO_PARAMETER_ENDINGS = ("position_ids", "logit_scale", "attn_mask", "model_ema.decay")
_TEXT_ENCODERS: dict[Component, tuple[str, ...]] = {
    "text_encoder": (
        "conditioner.embedders.0.transformer.",
        "cond_stage_model.model.",
        "cond_stage_model.transformer.",
    ),
    # the refiner has it alone
    "text_encoder_2": ("conditioner.embedders.1.model.", "conditioner.embedders.0.model."),
}
_NETWORKS = (UNET, VAE, "cond_stage_model.", "conditioner.embedders.")


def open_single_file(
    path: Path, *, source: str, config: Path | None = None, allow_pickle: bool = False
) -> Checkpoint:
    """Open a checkpoint in the original layout.

    config: a folder in diffusers layout whose configs and tokenizers describe the model, for those that are
    not recognised; its weights, if there are any, are not read.
    Raises InputError for a pickle that was not allowed, ExportError if the file is damaged, incomplete, or of
    another family.
    """
    tensors = open_tensors(path, allow_pickle=allow_pickle)
    if config is not None:
        configs, tokenizers = read_settings(config)
        settings = fingerprint(config, settings_files(config, configs))
    else:
        configs, tokenizers = _detected(tensors, path.name)
        settings = ""
    components: tuple[Component, ...] = (*configs.text_encoders, "unet", "vae")
    models = {component: build(configs, component) for component in components}
    places = {component: _places(component, model, tensors) for component, model in models.items()}
    weights: dict[Component, Weights] = {
        component: PlacedWeights(tensors, places[component], model) for component, model in models.items()
    }
    for component, model in models.items():
        check_weights(model, weights[component], f"{path} ({component})")
    _check_rest(tensors, {place.key for own in places.values() for place in own.values()}, path)
    return Checkpoint(
        source=source,
        fingerprint=fingerprint(path.parent, [path]) + settings,
        configs=configs,
        tokenizers=tokenizers,
        parameters={component: count(model) for component, model in models.items()},
        build=lambda component: build(configs, component),
        weights=weights.__getitem__,
    )


def _pad(text_encoder: Config) -> str:
    """OpenAI's CLIP pads with the end; OpenCLIP, without quick_gelu, with token 0, an exclamation mark."""
    return END if text_encoder["hidden_act"] == "quick_gelu" else "!"


def _detected(tensors: Tensors, called: str) -> tuple[Configs, dict[str, CLIPTokenizer]]:
    found = detect(tensors, called)
    raw = found.architecture.configs()
    text_encoders = {name: raw[name] for name in TEXT_ENCODERS if name in raw}
    tokenizers = {TOKENIZERS[name]: clip_tokenizer(_pad(config)) for name, config in text_encoders.items()}
    configs = read_configs(
        index=found.architecture.index,
        text_encoders=text_encoders,
        unet={**raw["unet"], **found.unet},
        vae=raw["vae"],
        scheduler={**raw["scheduler"], **found.scheduler},
        tokenizers=tokenizers,
        overrides={},
    )
    return configs, tokenizers


def _places(component: Component, model: nn.Module, tensors: Tensors) -> dict[str, Place]:
    names = list(model.state_dict())
    if component == "unet":
        return unet_places(names)
    if component == "vae":
        return vae_places(names)
    for start in _TEXT_ENCODERS[component]:
        if any(key.startswith(start) for key in tensors):
            return (open_clip_places if start.endswith(".model.") else clip_places)(names, start)
    raise ExportError(f"the file has no {component}")


def _check_rest(tensors: Tensors, used: set[str], path: Path) -> None:
    """Raise ExportError if a network of the file has more parameters than were looked for."""
    rest = [
        key
        for key in tensors
        if key not in used
        and key.startswith(_NETWORKS)
        and not key.startswith(_NO_PARAMETERS)
        and not key.endswith(_NO_PARAMETER_ENDINGS)
    ]
    if rest:
        raise ExportError(
            f"{path} has {len(rest)} parameters that its family does not, {rest[0]} among them; "
            "describe the model by the configs of a diffusers folder: --config FOLDER"
        )
