"""A checkpoint in a local folder in diffusers layout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import nn
from transformers import CLIPTextConfig

from sdrt.errors import ExportError

from .checkpoint import Checkpoint
from .config_folder import read_config_folder
from .configs import TEXT_ENCODERS, Configs
from .noise import quiet
from .parameters import FileWeights, TensorFile, Tensors, Weights, build_empty, check_weights
from .specs import MODELS, Component
from .variants import check_variant
from .weights import count_parameters, find_weights, fingerprint


def open_folder(
    folder: Path, *, source: str, variant: str | None = None, revision: str | None = None
) -> Checkpoint:
    """Check everything that can be checked without loading weights.

    variant: of the weight files, see `choose_weights`. revision: the commit, of a repository of the hub.
    Raises ExportError, naming the file, if the folder is incomplete, damaged, pickled, or of another family.
    """
    settings = read_config_folder(folder)
    configs, components = settings.configs, settings.components
    stems: dict[str, str] = {component: stem(component) for component in components}
    check_variant(variant, stems, _files(folder, components), str(folder))
    weights = {
        component: find_weights(folder / component, stem(component), variant) for component in components
    }
    parameters = {
        component: sum(count_parameters(path) for path in files) for component, (files, _) in weights.items()
    }
    loaded = {
        component: open_weights(str(folder / component), build(configs, component), map(TensorFile, found))
        for component, (found, _) in weights.items()
    }
    files = [path for found, _ in weights.values() for path in found]
    return Checkpoint(
        source=source,
        revision=revision,
        fingerprint=fingerprint(folder, [*files, *settings.files]),
        configs=configs,
        tokenizers=settings.tokenizers,
        parameters=parameters,
        build=lambda component: build(configs, component),
        weights=loaded.__getitem__,
    )


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


def open_weights(called: str, model: nn.Module, files: Iterable[Tensors]) -> Weights:
    """The parameters of one component, under their diffusers names. called: in messages.

    Raises ExportError if they do not fill the module.
    """
    places = {key: file for file in files for key in file}
    spelled = {
        name: next((key for key in _spellings(name) if key in places), None) for name in model.state_dict()
    }
    weights = FileWeights(places, {name: key for name, key in spelled.items() if key is not None})
    check_weights(model, weights, called)
    return weights


def _spellings(name: str) -> Iterator[str]:
    """Keys that a parameter has had in files: of transformers before 5, and of diffusers' first VAEs."""
    yield name
    yield f"text_model.{name}"
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        yield name.replace(f".{new}.", f".{old}.")
