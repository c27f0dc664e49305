"""A checkpoint in one file, in the original layout."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from sdrt.errors import ExportError

from ..checkpoint import Checkpoint
from ..config_folder import read_config_folder
from ..folder import build
from ..parameters import Tensors
from ..weights import fingerprint
from .detect import VAE, detect
from .family import TEMPLATES, marked_noise, settings_of_family
from .files import hash_file, open_file
from .placed import open_part


def open_single_file(
    path: Path, *, source: str, config: Path | None, allow_pickle: bool, own_vae: bool = True
) -> Checkpoint:
    """Open a `.safetensors`, or with `allow_pickle` a `.ckpt`, of Stable Diffusion 1, 2 or XL.

    config: a folder in diffusers layout whose configs and tokenizers stand for those of the family.
    own_vae: read the VAE of the file; otherwise the checkpoint has no weights for one until `with_vae` gives
    some.
    Nothing is read from the network. Raises InputError if the file is of another kind or a pickle that is not
    allowed; ExportError if it is damaged, incomplete, or does not fit its configs.
    """
    file = open_file(path, allow_pickle=allow_pickle)
    detected = detect(path, {key: file.shape(key) for key in file})
    if config is None:
        settings = settings_of_family(file, detected)
    else:
        settings = read_config_folder(config, changes={"scheduler": marked_noise(file)})
    if set(settings.components) != detected.parts.keys():
        raise ExportError(
            f"{path} has {_listed(detected.parts)}, and {config} describes {_listed(settings.components)}; "
            "give the configs of this model to --config"
        )
    models = {component: build(settings.configs, component) for component in settings.components}
    if own_vae:
        _check_vae(file)
    weights = {
        component: open_part(file, part, models[component])
        for component, part in detected.parts.items()
        if own_vae or component != "vae"
    }
    file_sha256 = hash_file(path)
    known = fingerprint(config or TEMPLATES, settings.files)
    return Checkpoint(
        source=source,
        fingerprint=hashlib.sha256(f"{file_sha256} {known}".encode()).hexdigest(),
        file_sha256=file_sha256,
        configs=settings.configs,
        tokenizers=settings.tokenizers,
        parameters={
            component: sum(parameter.numel() for parameter in model.parameters())
            for component, model in models.items()
        },
        build=lambda component: build(settings.configs, component),
        weights=weights.__getitem__,
    )


def _check_vae(file: Tensors) -> None:
    """Raise ExportError if a file has no VAE, or half of one: trainers leave out what they do not train."""
    for part, what in (
        ("", "no VAE"),
        ("decoder.", "no decoder in its VAE"),
        ("encoder.", "no encoder in its VAE"),
    ):
        if not any(key.startswith(VAE.prefix + part) for key in file):
            raise ExportError(f"{file.path} has {what}; give a whole VAE of its family with --vae PATH")


def _listed(components: Iterable[str]) -> str:
    return " + ".join(sorted(components))
