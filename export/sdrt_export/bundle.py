"""The files of a bundle beside its graphs: configs, tokenizer, manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from sdrt import manifest
from sdrt.manifest import FileEntry, GraphEntry, GraphName, LatentRgb, MadeBy, Manifest, Precision

from .checkpoint import Model
from .configs import TOKENIZERS, Config, Configs
from .resume import describe
from .specs import MODELS
from .tokenizer import save_tokenizer


def write_configs(model: Model, folder: Path) -> None:
    """Write the configs and the tokenizers where diffusers and the optimum ONNX pipelines look for them."""
    configs = model.configs
    scheduler = configs.scheduler["_class_name"]
    xl = configs.conditioning.time_ids is not None
    index: dict[str, Any] = {
        "_class_name": _pipeline(configs),
        "_diffusers_version": configs.unet.get("_diffusers_version"),
        "feature_extractor": [None, None],
        "scheduler": ["diffusers", scheduler],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if xl:
        index |= {"force_zeros_for_empty_prompt": configs.conditioning.zeros_without_negative}
        index |= {"requires_aesthetics_score": configs.conditioning.time_ids == "aesthetic_score"}
        index |= {"image_encoder": [None, None], "text_encoder": [None, None], "tokenizer": [None, None]}
    else:
        index |= {"requires_safety_checker": False, "safety_checker": [None, None]}
    for name in configs.text_encoders:
        index[name] = ["transformers", MODELS[name].__name__]
        index[TOKENIZERS[name]] = ["transformers", "CLIPTokenizer"]
    _write(index, folder / "model_index.json")
    _write(configs.scheduler, folder / "scheduler" / "scheduler_config.json")
    for name, config in configs.text_encoders.items():
        _write(config, folder / name / "config.json")
    _write(configs.unet, folder / "unet" / "config.json")
    _write(configs.vae, folder / "vae_decoder" / "config.json")
    _write(configs.vae, folder / "vae_encoder" / "config.json")
    for place, tokenizer in model.tokenizers.items():
        save_tokenizer(tokenizer, folder / place)


def _pipeline(configs: Configs) -> str:
    """The diffusers pipeline that the bundle is for; the refiner of XL has one for image to image only."""
    match configs.conditioning.time_ids:
        case "aesthetic_score":
            return "StableDiffusionXLImg2ImgPipeline"
        case "sizes":
            return "StableDiffusionXLPipeline"
    return "StableDiffusionPipeline"


def write_manifest(
    model: Model,
    folder: Path,
    *,
    name: str,
    precision: Precision,
    opset: int,
    tools: dict[str, str],
    latent_rgb: LatentRgb | None,
    graphs: dict[GraphName, GraphEntry],
    known: Mapping[str, FileEntry],
) -> None:
    """Describe the files in `folder` in its sdrt.json, the last file written. known: files hashed before."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    configs = model.configs
    made = Manifest(
        schema=manifest.SCHEMA,
        name=name,
        family=configs.family,
        precision=precision,
        made_by=MadeBy(
            source=model.source,
            revision=model.revision,
            file_sha256=model.file_sha256,
            opset=opset,
            tools=tools,
        ),
        graphs=graphs,
        text=configs.text,
        conditioning=configs.conditioning,
        schedule=configs.schedule,
        vae=msgspec.structs.replace(configs.vae_settings, latent_rgb=latent_rgb),
        defaults=configs.defaults,
        files={name: known.get(name) or describe(path) for name, path in files.items()},
    )
    manifest.write(made, folder / manifest.FILE_NAME)


def _write(config: Config, path: Path) -> None:
    fields: dict[str, Any] = {key: value for key, value in config.items() if key != "_name_or_path"}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
