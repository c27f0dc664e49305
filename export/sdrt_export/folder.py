"""A Stable Diffusion 1 checkpoint in a local folder in diffusers layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from sdrt.errors import ExportError

from .checkpoint import Checkpoint
from .configs import Configs, check_family, default_request, with_defaults
from .noise import quiet
from .specs import Component
from .tokenizer import load_tokenizer, text_settings
from .weights import count_parameters, find_weights, fingerprint, read_json

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
MODELS = {"text_encoder": CLIPTextModel, "unet": UNet2DConditionModel, "vae": AutoencoderKL}
STEMS: dict[Component, str] = {
    "text_encoder": "model",
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
DEFAULTS_NAME = "sdrt_defaults.json"


def open_folder(folder: Path, *, source: str) -> Checkpoint:
    """Check everything that can be checked without loading weights.

    Raises ExportError, naming the file, if the folder is incomplete, damaged, pickled, or of another family.
    """
    index_path = folder / "model_index.json"
    if not index_path.exists():
        raise ExportError(
            f"{folder} has no model_index.json; expected a Stable Diffusion 1.x folder in diffusers layout"
        )
    _check_index(read_json(index_path), index_path)
    paths: dict[str, Path] = {component: folder / component / "config.json" for component in STEMS}
    paths["scheduler"] = folder / "scheduler" / "scheduler_config.json"
    raw = {component: read_json(path) for component, path in paths.items()}
    overrides = read_json(folder / DEFAULTS_NAME) if (folder / DEFAULTS_NAME).exists() else {}
    configs, tokenizer = _settings(raw, overrides, folder)
    weights = {component: find_weights(folder / component, stem) for component, stem in STEMS.items()}
    parameters = {
        component: sum(count_parameters(path) for path in files) for component, (files, _) in weights.items()
    }
    files = [path for found, _ in weights.values() for path in found]
    files += [*paths.values(), *(path for path in (folder / "tokenizer").iterdir() if path.is_file())]
    files += [folder / DEFAULTS_NAME] if overrides else []
    return Checkpoint(
        source=source,
        fingerprint=fingerprint(folder, files),
        configs=configs,
        tokenizer=tokenizer,
        parameters=parameters,
        load=lambda component: _load(folder, component, weights[component][1]),
    )


def _check_index(index: Mapping[str, Any], path: Path) -> None:
    pipeline = index.get("_class_name")
    if pipeline not in PIPELINES:
        raise ExportError(f"{path} is for {pipeline}; sdrt exports {' and '.join(PIPELINES)} so far")
    for component, model in MODELS.items():
        entry = index.get(component)
        if not isinstance(entry, list) or entry[-1:] != [model.__name__]:
            raise ExportError(f"{path} has {component} {entry!r}; expected a {model.__name__}")


def _settings(raw: dict[str, Any], overrides: dict[str, Any], folder: Path) -> tuple[Configs, Any]:
    unet = with_defaults(UNet2DConditionModel, raw["unet"])
    vae = with_defaults(AutoencoderKL, raw["vae"])
    text_encoder = CLIPTextConfig.from_dict(raw["text_encoder"]).to_dict()
    check_family(unet, vae, text_encoder, raw["scheduler"])
    tokenizer = load_tokenizer(folder / "tokenizer")
    configs = Configs(
        text_encoder=text_encoder,
        unet=unet,
        vae=vae,
        scheduler=raw["scheduler"],
        text=text_settings(tokenizer, text_encoder["max_position_embeddings"], text_encoder["vocab_size"]),
        defaults=default_request(unet, vae, raw["scheduler"], overrides),
    )
    return configs, tokenizer


def _load(folder: Path, component: Component, variant: str | None) -> nn.Module:
    options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    options |= {"variant": variant} if variant else {}
    options |= {"dtype" if component == "text_encoder" else "torch_dtype": torch.float32}
    try:
        with quiet():
            model, report = MODELS[component].from_pretrained(folder / component, **options)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ExportError(f"cannot load {folder / component}: {line}") from None
    wrong = [*report["missing_keys"], *report["mismatched_keys"], *report.get("error_msgs", ())]
    if wrong:
        raise ExportError(
            f"the weights in {folder / component} do not fit its config: {wrong[0]} "
            f"({len(wrong)} in all are missing or of another shape)"
        )
    loaded: nn.Module = model.eval().requires_grad_(False)
    return loaded
