"""Another VAE in the place of a checkpoint's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sdrt.errors import ExportError, InputError

from ..checkpoint import Checkpoint
from ..configs import Config
from ..folder import open_weights, read_vae_config, stem
from ..parameters import Weights, build, check_weights
from ..weights import find_weights, fingerprint
from .places import VAE, Place, vae_places
from .tensors import PlacedWeights, Tensors, open_tensors


def replace_vae(checkpoint: Checkpoint, path: Path, *, allow_pickle: bool = False) -> Checkpoint:
    """The checkpoint with the VAE at `path`.

    path: a file that holds a VAE or a whole checkpoint, or a folder of a VAE or of a pipeline in diffusers
    layout. A file has no config, so that the checkpoint's own tells its scaling.
    Raises InputError if there is nothing at `path`, ExportError if it is no VAE for this checkpoint.
    """
    if path.is_dir():
        folder = path / "vae" if (path / "vae").is_dir() else path
        changed = _with_config(checkpoint, read_vae_config(folder))
        found, _ = find_weights(folder, stem("vae"))
        weights: Weights = open_weights(folder, build(changed.configs, "vae"), found)
        files = [*found, folder / "config.json"]
    elif path.is_file():
        changed = checkpoint
        model = build(changed.configs, "vae")
        tensors = open_tensors(path, allow_pickle=allow_pickle)
        weights = PlacedWeights(tensors, _places(tensors, list(model.state_dict()), path), model)
        check_weights(model, weights, str(path))
        files = [path]
    else:
        raise InputError(f"there is no VAE {path}; give a file or a folder")
    return replace(
        changed,
        fingerprint=f"{checkpoint.fingerprint} vae {fingerprint(files[0].parent, files)}",
        weights=lambda component: weights if component == "vae" else checkpoint.weights(component),
    )


def _with_config(checkpoint: Checkpoint, vae: Config) -> Checkpoint:
    ours = checkpoint.configs.vae
    if vae["latent_channels"] != ours["latent_channels"]:
        raise ExportError(
            f"the VAE has latents of {vae['latent_channels']} channels, the model of "
            f"{ours['latent_channels']}; they do not belong together"
        )
    configs = replace(checkpoint.configs, vae=vae)
    return replace(checkpoint, configs=configs, build=lambda component: build(configs, component))


def _places(tensors: Tensors, names: list[str], path: Path) -> dict[str, Place]:
    if "encoder.down_blocks.0.resnets.0.conv1.weight" in tensors:
        return {name: Place(name) for name in names}
    for prefix in (VAE, "", "vae."):
        if f"{prefix}encoder.down.0.block.0.conv1.weight" in tensors:
            return vae_places(names, prefix)
    raise ExportError(f"{path} holds no VAE; give one, or a checkpoint that has one")
