"""The files of a bundle beside its graphs: configs, tokenizer, manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdrt import manifest
from sdrt.manifest import FileEntry, GraphEntry, GraphName, MadeBy, Manifest, Precision

from .checkpoint import Checkpoint
from .configs import Config
from .resume import describe
from .tokenizer import save_tokenizer


def write_configs(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the configs and the tokenizer where diffusers and the optimum ONNX pipelines look for them."""
    configs = checkpoint.configs
    scheduler = configs.scheduler["_class_name"]
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": configs.unet.get("_diffusers_version"),
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    _write(index, folder / "model_index.json")
    _write(configs.scheduler, folder / "scheduler" / "scheduler_config.json")
    _write(configs.text_encoder, folder / "text_encoder" / "config.json")
    _write(configs.unet, folder / "unet" / "config.json")
    _write(configs.vae, folder / "vae_decoder" / "config.json")
    _write(configs.vae, folder / "vae_encoder" / "config.json")
    save_tokenizer(checkpoint.tokenizer, folder / "tokenizer")


def write_manifest(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    name: str,
    precision: Precision,
    opset: int,
    tools: dict[str, str],
    graphs: dict[GraphName, GraphEntry],
    known: Mapping[str, FileEntry],
) -> None:
    """Describe the files in `folder` in its sdrt.json, the last file written. known: files hashed before."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    configs = checkpoint.configs
    made = Manifest(
        schema=manifest.SCHEMA,
        name=name,
        family="stable-diffusion-1",
        precision=precision,
        made_by=MadeBy(source=checkpoint.source, revision=None, opset=opset, tools=tools),
        graphs=graphs,
        text=configs.text,
        schedule=configs.schedule,
        vae=configs.vae_settings,
        defaults=configs.defaults,
        files={name: known.get(name) or describe(path) for name, path in files.items()},
    )
    manifest.write(made, folder / manifest.FILE_NAME)


def _write(config: Config, path: Path) -> None:
    fields: dict[str, Any] = {key: value for key, value in config.items() if key != "_name_or_path"}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
