"""The configs and tokenizers of a folder in diffusers layout; its weights may be elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTokenizer

from sdrt.errors import ExportError

from .configs import TEXT_ENCODERS, TOKENIZERS, Config, Configs, read_configs, with_defaults
from .scheduler import reads_option
from .specs import MODELS, Component
from .tokenizer import load_tokenizer
from .weights import read_json

# Parts of a pipeline that are read elsewhere, or that a picture does not need.
NO_NETWORKS = (
    *("scheduler", "tokenizer", "tokenizer_2"),
    *("safety_checker", "feature_extractor", "image_encoder"),
)
INDEX_NAME = "model_index.json"
DEFAULTS_NAME = "sdrt_defaults.json"


@dataclass(frozen=True, kw_only=True)
class ConfigFolder:
    """What the folder says. tokenizers: by folder name. files: everything that was read."""

    configs: Configs
    components: tuple[Component, ...]
    tokenizers: Mapping[str, CLIPTokenizer]
    files: tuple[Path, ...]


def read_config_folder(
    folder: Path,
    *,
    tokenizers: Mapping[str, CLIPTokenizer] | None = None,
    changes: Mapping[str, Config] | None = None,
    components: Sequence[Component] | None = None,
    vae: str = "vae",
) -> ConfigFolder:
    """Read and check every setting of a checkpoint.

    tokenizers: by folder name, instead of those in the folder. changes: values of `unet` or `scheduler` that
    stand above those in the folder's config. components: the networks, by default those that the index names.
    vae: the subfolder with the config of the VAE.
    A scheduler that does not read what is changed of it becomes DDIM.
    Raises ExportError, naming the file, if the folder is incomplete, damaged, or of another family.
    """
    index_path = folder / INDEX_NAME
    if not index_path.exists():
        raise ExportError(f"{folder} has no {INDEX_NAME}; expected a folder in diffusers layout")
    index = read_json(index_path)
    if components is None:
        components = components_of(index, str(index_path))
    else:
        parts_of(index, str(index_path))
    paths: dict[str, Path] = {component: folder / component / "config.json" for component in components}
    paths["vae"] = folder / vae / "config.json"
    paths["scheduler"] = folder / "scheduler" / "scheduler_config.json"
    raw = {part: {**read_json(path), **(changes or {}).get(part, {})} for part, path in paths.items()}
    if not _reads(index, raw["scheduler"], (changes or {}).get("scheduler", {})):
        # DDIM does, and would clip by default, which others do not
        index = {**index, "scheduler": ["diffusers", "DDIMScheduler"]}
        raw["scheduler"] = {"clip_sample": False, **raw["scheduler"]}
    defaults = folder / DEFAULTS_NAME
    overrides = read_json(defaults) if defaults.exists() else {}
    text_encoders = {name: _text_config(raw[name]) for name in TEXT_ENCODERS if name in components}
    names = [TOKENIZERS[name] for name in text_encoders]
    files = [*paths.values(), index_path, *([defaults] if overrides else [])]
    if tokenizers is None:
        tokenizers = {name: load_tokenizer(folder / name) for name in names}
        files += [path for name in names for path in (folder / name).iterdir() if path.is_file()]
    configs = read_configs(
        index=index,
        text_encoders=text_encoders,
        unet=with_defaults(UNet2DConditionModel, raw["unet"]),
        vae=with_defaults(AutoencoderKL, raw["vae"]),
        scheduler=raw["scheduler"],
        tokenizers=tokenizers,
        overrides=overrides,
    )
    return ConfigFolder(
        configs=configs, components=tuple(components), tokenizers=tokenizers, files=tuple(files)
    )


def _reads(index: Config, config: Config, options: Config) -> bool:
    """Whether the scheduler of a checkpoint reads these options."""
    named = index.get("scheduler") or [None, config.get("_class_name")]
    return all(reads_option(str(named[-1]), option) for option in options)


def components_of(index: Mapping[str, Any], called: str) -> list[Component]:
    """The networks that a model_index.json names, each of the class that sdrt knows.

    called: where it is, in messages. Raises ExportError if it is of another family.
    """
    parts = parts_of(index, called)
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


def parts_of(index: Mapping[str, Any], called: str) -> dict[str, list[Any]]:
    """What a model_index.json names, as [library, class]. Raises ExportError if sdrt does not know a part."""
    parts = {name: part for name, part in index.items() if isinstance(part, list) and any(part)}
    for name, entry in parts.items():
        if name not in MODELS and name not in NO_NETWORKS:
            raise ExportError(
                f"{called} is for {index.get('_class_name')}, whose {name} {entry!r} is not supported; "
                f"sdrt knows {', '.join(f'{known} ({model.__name__})' for known, model in MODELS.items())}"
            )
    return parts


def _text_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = CLIPTextConfig.from_dict(dict(raw)).to_dict()
    return config
