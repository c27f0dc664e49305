"""A checkpoint in a local folder in diffusers layout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTokenizer

from sdrt.errors import ExportError

from .checkpoint import Checkpoint
from .configs import TEXT_ENCODERS, TOKENIZERS, Config, Configs, read_configs, with_defaults
from .parameters import FileWeights, TensorFile, Weights, build, check_weights, count
from .specs import MODELS, Component
from .tokenizer import load_tokenizer
from .variants import check_variant
from .weights import check_safetensors, find_weights, fingerprint, read_json

# Parts of a pipeline that are read elsewhere, or that a picture does not need.
NO_NETWORKS = (
    *("scheduler", "tokenizer", "tokenizer_2"),
    *("safety_checker", "feature_extractor", "image_encoder"),
)
INDEX = "model_index.json"
SCHEDULER = "scheduler/scheduler_config.json"
DEFAULTS_NAME = "sdrt_defaults.json"


def open_folder(
    folder: Path, *, source: str, variant: str | None = None, revision: str | None = None
) -> Checkpoint:
    """Check everything that can be checked without loading weights.

    variant: of the weight files, see `choose_weights`. revision: the commit, of a repository of the hub.
    Raises ExportError, naming the file, if the folder is incomplete, damaged, pickled, or of another family.
    """
    configs, tokenizers = read_settings(folder)
    components: tuple[Component, ...] = (*configs.text_encoders, "unet", "vae")
    stems: dict[str, str] = {component: stem(component) for component in components}
    check_variant(variant, stems, _files(folder, components), str(folder))
    models = {component: build(configs, component) for component in components}
    files = {
        component: find_weights(folder / component, stem(component), variant)[0] for component in components
    }
    weights = {
        component: open_weights(folder / component, model, files[component])
        for component, model in models.items()
    }
    read = [path for found in files.values() for path in found] + settings_files(folder, configs)
    return Checkpoint(
        source=source,
        revision=revision,
        fingerprint=fingerprint(folder, read),
        configs=configs,
        tokenizers=tokenizers,
        parameters={component: count(model) for component, model in models.items()},
        build=lambda component: build(configs, component),
        weights=weights.__getitem__,
    )


def read_settings(folder: Path) -> tuple[Configs, dict[str, CLIPTokenizer]]:
    """The configs of a folder and its tokenizers by folder name; weights are not looked at.

    Raises ExportError, naming the file, if one is missing or damaged, or the family is not supported.
    """
    index_path = folder / INDEX
    if not index_path.exists():
        raise ExportError(f"{folder} has no {INDEX}; expected a folder in diffusers layout")
    index = read_json(index_path)
    components = components_of(index, str(index_path))
    raw = {component: read_json(folder / component / "config.json") for component in components}
    text_encoders = {name: _text_config(raw[name]) for name in TEXT_ENCODERS if name in components}
    tokenizers = {TOKENIZERS[name]: load_tokenizer(folder / TOKENIZERS[name]) for name in text_encoders}
    configs = read_configs(
        index=index,
        text_encoders=text_encoders,
        unet=with_defaults(UNet2DConditionModel, raw["unet"]),
        vae=with_defaults(AutoencoderKL, raw["vae"]),
        scheduler=read_json(folder / SCHEDULER),
        tokenizers=tokenizers,
        overrides=read_json(folder / DEFAULTS_NAME) if (folder / DEFAULTS_NAME).exists() else {},
    )
    return configs, tokenizers


def settings_files(folder: Path, configs: Configs) -> list[Path]:
    """The files that `read_settings` reads."""
    names = [INDEX, SCHEDULER, *(f"{part}/config.json" for part in (*configs.text_encoders, "unet", "vae"))]
    names += [DEFAULTS_NAME] if (folder / DEFAULTS_NAME).exists() else []
    places = [folder / TOKENIZERS[name] for name in configs.text_encoders]
    return [folder / name for name in names] + [
        path for place in places for path in place.iterdir() if path.is_file()
    ]


def read_vae_config(folder: Path) -> Config:
    """The config of a VAE, defaults filled in. Raises ExportError if it is missing or damaged."""
    return with_defaults(AutoencoderKL, read_json(folder / "config.json"))


def components_of(index: Mapping[str, Any], called: str) -> list[Component]:
    """The networks that a model_index.json names, each of the class that sdrt knows.

    called: where it is, in messages. Raises ExportError if it is of another family.
    """
    parts = {name: part for name, part in index.items() if isinstance(part, list) and part != [None, None]}
    for name, entry in parts.items():
        if name not in MODELS and name not in NO_NETWORKS:
            raise ExportError(
                f"{called} is for {index.get('_class_name')}, whose {name} {entry!r} is not supported; "
                f"sdrt knows {', '.join(f'{known} ({model.__name__})' for known, model in MODELS.items())}"
            )
    components: list[Component] = []
    for component, model in MODELS.items():
        named = parts.get(component, [None])[-1]
        if component in TEXT_ENCODERS and named is None:
            continue
        if named != model.__name__:
            raise ExportError(f"{called} has {named} for {component}; expected a {model.__name__}")
        components.append(component)
    if not set(components) & set(TEXT_ENCODERS):
        raise ExportError(f"{called} names no text encoder; the checkpoint is incomplete")
    return components


def _text_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = CLIPTextConfig.from_dict(dict(raw)).to_dict()
    return config


def _files(folder: Path, components: Iterable[Component]) -> set[str]:
    return {f"{component}/{path.name}" for component in components for path in (folder / component).iterdir()}


def stem(component: Component) -> str:
    """How the names of a component's weight files begin."""
    return "model" if component in TEXT_ENCODERS else "diffusion_pytorch_model"


def open_weights(folder: Path, model: nn.Module, paths: Sequence[Path]) -> Weights:
    """The parameters of a module in the files of its folder.

    Raises ExportError if a file is damaged or a pickle, or they do not fill the module.
    """
    for path in paths:
        check_safetensors(path)
    files = {key: file for file in map(TensorFile, paths) for key in file}
    spelled = {
        name: next((key for key in _spellings(name) if key in files), None) for name in model.state_dict()
    }
    weights = FileWeights(files, {name: key for name, key in spelled.items() if key is not None})
    check_weights(model, weights, str(folder))
    return weights


def _spellings(name: str) -> Iterator[str]:
    """Keys that a parameter has had in files: of transformers before 5, and of diffusers' first VAEs."""
    yield name
    yield f"text_model.{name}"
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        yield name.replace(f".{new}.", f".{old}.")
