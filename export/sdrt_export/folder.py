"""A checkpoint in a local folder in diffusers layout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig

from sdrt.errors import ExportError

from .checkpoint import Checkpoint
from .configs import TEXT_ENCODERS, TOKENIZERS, Configs, read_configs, with_defaults
from .noise import quiet
from .parameters import FileWeights, TensorFile, Weights, build_empty, check_weights
from .specs import MODELS, Component
from .tokenizer import load_tokenizer
from .variants import check_variant
from .weights import count_parameters, find_weights, fingerprint, read_json

# Parts of a pipeline that are read elsewhere, or that a picture does not need.
NO_NETWORKS = (
    *("scheduler", "tokenizer", "tokenizer_2"),
    *("safety_checker", "feature_extractor", "image_encoder"),
)
DEFAULTS_NAME = "sdrt_defaults.json"


def open_folder(
    folder: Path, *, source: str, variant: str | None = None, revision: str | None = None
) -> Checkpoint:
    """Check everything that can be checked without loading weights.

    variant: of the weight files, see `choose_weights`. revision: the commit, of a repository of the hub.
    Raises ExportError, naming the file, if the folder is incomplete, damaged, pickled, or of another family.
    """
    index_path = folder / "model_index.json"
    if not index_path.exists():
        raise ExportError(f"{folder} has no model_index.json; expected a folder in diffusers layout")
    index = read_json(index_path)
    components = components_of(index, str(index_path))
    paths: dict[str, Path] = {component: folder / component / "config.json" for component in components}
    paths["scheduler"] = folder / "scheduler" / "scheduler_config.json"
    raw = {component: read_json(path) for component, path in paths.items()}
    overrides = read_json(folder / DEFAULTS_NAME) if (folder / DEFAULTS_NAME).exists() else {}
    text_encoders = {name: _text_config(raw[name]) for name in TEXT_ENCODERS if name in components}
    tokenizers = {TOKENIZERS[name]: load_tokenizer(folder / TOKENIZERS[name]) for name in text_encoders}
    configs = read_configs(
        index=index,
        text_encoders=text_encoders,
        unet=with_defaults(UNet2DConditionModel, raw["unet"]),
        vae=with_defaults(AutoencoderKL, raw["vae"]),
        scheduler=raw["scheduler"],
        tokenizers=tokenizers,
        overrides=overrides,
    )
    stems: dict[str, str] = {component: stem(component) for component in components}
    check_variant(variant, stems, _files(folder, components), str(folder))
    weights = {
        component: find_weights(folder / component, stem(component), variant) for component in components
    }
    parameters = {
        component: sum(count_parameters(path) for path in files) for component, (files, _) in weights.items()
    }
    loaded = {
        component: _open_weights(folder / component, build(configs, component), found)
        for component, (found, _) in weights.items()
    }
    files = [path for found, _ in weights.values() for path in found]
    files += [*paths.values(), index_path]
    files += [path for name in tokenizers for path in (folder / name).iterdir() if path.is_file()]
    files += [folder / DEFAULTS_NAME] if overrides else []
    return Checkpoint(
        source=source,
        revision=revision,
        fingerprint=fingerprint(folder, files),
        configs=configs,
        tokenizers=tokenizers,
        parameters=parameters,
        build=lambda component: build(configs, component),
        weights=loaded.__getitem__,
    )


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


def build(configs: Configs, component: Component) -> nn.Module:
    """The empty module that the configs describe. Raises ExportError if its class refuses them."""
    config: Any = configs.unet if component == "unet" else configs.vae
    try:
        with quiet():
            if component in TEXT_ENCODERS:
                text = CLIPTextConfig.from_dict(dict(configs.text_encoders[component]))
                return build_empty(lambda: MODELS[component](text))
            return build_empty(lambda: MODELS[component].from_config(dict(config)))
    except (TypeError, ValueError, KeyError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ExportError(f"the config of the {component} makes no model: {line}") from None


def _open_weights(folder: Path, model: nn.Module, paths: Sequence[Path]) -> Weights:
    """The parameters of one component. Raises ExportError if they do not fill the module."""
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
