"""Another VAE for a checkpoint: `--vae`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from diffusers import AutoencoderKL
from torch import nn

from sdrt.errors import ExportError, InputError

from ..checkpoint import Checkpoint
from ..configs import Config, with_defaults
from ..folder import open_weights
from ..parameters import TensorFile, Weights
from ..weights import count_parameters, find_weights, fingerprint, read_json
from .detect import VAE
from .files import hash_file, open_file
from .names import Part
from .placed import open_part

# What the names of a VAE's keys begin with, in checkpoints of either layout and alone.
PREFIXES = (VAE.prefix, "vae.", "")


def with_vae(checkpoint: Checkpoint, path: Path, *, allow_pickle: bool) -> Checkpoint:
    """The checkpoint with the weights of another VAE, which must be built like its own.

    path: a whole checkpoint in one file; a VAE in one file, under its original names or those of diffusers;
    or a folder in diffusers layout, of a VAE or of a whole pipeline.
    Raises InputError if there is no VAE in it or it is a pickle that is not allowed; ExportError if it is
    damaged or of another build.
    """
    model = checkpoint.build("vae")
    config = checkpoint.configs.vae
    if path.is_dir():
        config, weights, known = _from_folder(path, model, config)
    else:
        weights = _from_file(path, model, allow_pickle=allow_pickle)
        known = hash_file(path)
    return replace(
        checkpoint,
        fingerprint=hashlib.sha256(f"{checkpoint.fingerprint} vae {known}".encode()).hexdigest(),
        configs=replace(checkpoint.configs, vae=config),
        weights=lambda component: weights if component == "vae" else checkpoint.weights(component),
    )


def _from_file(path: Path, model: nn.Module, *, allow_pickle: bool) -> Weights:
    file = open_file(path, allow_pickle=allow_pickle)
    keys = set(file)
    for prefix in PREFIXES:
        if f"{prefix}decoder.conv_in.weight" in keys:
            if f"{prefix}decoder.mid.block_1.conv1.weight" in keys:
                return open_part(file, Part(prefix, "vae"), model)
            if not prefix:
                return open_weights(str(path), model, [file])
    raise InputError(f"{path} has no VAE in it; give one of Stable Diffusion, or a checkpoint with one")


def _from_folder(path: Path, model: nn.Module, own: Config) -> tuple[Config, Weights, str]:
    """The config to go by, the weights, and a fingerprint of both."""
    folder = path if (path / "config.json").exists() else path / "vae"
    if not (folder / "config.json").exists():
        raise InputError(f"{path} has no config.json and no vae/config.json; expected a VAE of diffusers")
    config = with_defaults(AutoencoderKL, read_json(folder / "config.json"))
    factor, expected = config["scaling_factor"], own["scaling_factor"]
    if factor != expected:
        raise ExportError(
            f"the VAE in {folder} scales latents by {factor}, the checkpoint's by {expected}; "
            "take one of the same family"
        )
    files, _ = find_weights(folder, "diffusion_pytorch_model")
    for file in files:
        count_parameters(file)
    weights = open_weights(str(folder), model, map(TensorFile, files))
    # some were trained to stay within the range of FP16, and say so
    config = {**own, "force_upcast": config["force_upcast"]}
    return config, weights, fingerprint(folder, [folder / "config.json", *files])
