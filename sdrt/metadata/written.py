"""What a picture of sdrt says of how it was made: AUTOMATIC1111's text, and sdrt's own JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import sdrt
from sdrt.bundle import sha256
from sdrt.manifest import Manifest
from sdrt.metadata.keywords import OWN, PARAMETERS
from sdrt.metadata.parameters import format_parameters
from sdrt.prompt import escape
from sdrt.request import Request
from sdrt.samplers import COMFYUI, SAMPLERS
from sdrt.this_machine import cpu_architecture
from sdrt.verified import state

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sdrt.backends import Runtime
    from sdrt.lora import AppliedLora
    from sdrt.textual_inversion import Embedding

# modules/sd_schedulers.py of AUTOMATIC1111 and of Forge
_SCHEDULE_TYPES = {
    "plain": "Uniform",
    "normal": "Uniform",
    "sgm_uniform": "SGM Uniform",
    "ddim_uniform": "DDIM",
    "kl_optimal": "KL Optimal",
    "align_your_steps": "Align Your Steps",
    "gits": "Align Your Steps GITS",
}
# a picture is one of its request, whose seed is its own
LEFT_OUT = frozenset({"count"})
# what a picture says that is no part of what was asked for
OUTCOME = frozenset({"library", "machine", "pixels_sha256"})


@dataclass(frozen=True, kw_only=True)
class MadeWith:
    """What all pictures of a loaded bundle have in common.

    backend: a name that opens it again; library: that runs the graphs, with its version.
    """

    manifest: Manifest
    backend: str
    library: str = ""
    loras: Sequence[AppliedLora] = ()
    embeddings: Sequence[Embedding] = ()


def made_with(
    manifest: Manifest,
    runtime: Runtime,
    loras: Sequence[AppliedLora],
    embeddings: Sequence[Embedding],
) -> MadeWith:
    """The same, of a runtime that is open."""
    from sdrt.backends import library

    return MadeWith(
        manifest=manifest,
        backend=runtime.name,
        library=library(runtime.name),
        loras=loras,
        embeddings=embeddings,
    )


def texts(
    request: Request,
    made: MadeWith,
    files: Mapping[str, str],
    pixels: NDArray[np.uint8] | None = None,
) -> dict[str, str]:
    """The texts of a picture, by keyword. files: as `hash_files` gives it; pixels: None if not made yet."""
    own = {
        "version": sdrt.__version__,
        **dict(_settings(request)),
        "files_sha256": dict(files),
        "model": _model(made.manifest),
        "backend": made.backend,
        "library": made.library,
        "machine": cpu_architecture(),
        **describe_added(made.loras, made.embeddings),
        "pixels_sha256": None if pixels is None else pixels_sha256(pixels),
    }
    return {PARAMETERS: _parameters(request, made), OWN: json.dumps(own, ensure_ascii=False)}


def hash_files(request: Request) -> dict[str, str]:
    """SHA-256 of the files that a request reads, by field; to be taken as they are read."""
    named = ((one, getattr(request, one)) for one in file_fields())
    return {name: _sha256_of(path) for name, path in named if path is not None}


@cache
def types_of_request() -> dict[str, Any]:
    """The types of a request's fields, by name."""
    return get_type_hints(Request)


@cache
def file_fields() -> tuple[str, ...]:
    """The fields of a request that are files."""
    return tuple(name for name, kind in types_of_request().items() if Path in get_args(kind))


def pixels_sha256(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of the bytes [H, W, 3], row by row."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def describe_added(loras: Sequence[AppliedLora], embeddings: Sequence[Embedding]) -> dict[str, Any]:
    """What was added to a bundle, as JSON says it: by name and hash of the file, without its folder."""
    return {
        "loras": [{"file": one.file.name, "sha256": one.sha256, "weight": one.weight} for one in loras],
        "embeddings": [
            {"token": one.token, "file": one.path.name, "vectors": one.count, "sha256": one.sha256}
            for one in embeddings
        ],
    }


def model_hash(manifest: Manifest) -> str:
    """Ten hex digits: of the checkpoint's file, as AUTOMATIC1111 has them, else of the U-Net's weights."""
    return (manifest.made_by.file_sha256 or unet_sha256(manifest))[:10]


def unet_sha256(manifest: Manifest) -> str:
    """SHA-256 of the U-Net's weights."""
    path = manifest.graphs["unet"].path
    weights = manifest.files.get(f"{PurePosixPath(path).parent}/model.onnx.data", manifest.files[path])
    return weights.sha256


def graph_digests(manifest: Manifest) -> dict[str, str]:
    """SHA-256 of each graph of a bundle, its weights included."""
    return {name: manifest.digest_of(entry) for name, entry in manifest.graphs.items()}


def _sha256_of(path: Path) -> str:
    return _sha256_once(path, *state(path))


@lru_cache(maxsize=64)
def _sha256_once(path: Path, *state: int) -> str:
    """Many pictures of a run may begin with the same file. state: by which a change of it shows."""
    return sha256(path)


def _settings(request: Request) -> Iterator[tuple[str, Any]]:
    """Every field of a request, files by name: their folders are nobody's business."""
    for one in fields(request):
        if one.name not in LEFT_OUT:
            value = getattr(request, one.name)
            yield one.name, value.name if isinstance(value, Path) else value


def _model(manifest: Manifest) -> dict[str, Any]:
    source = manifest.made_by.source
    absolute = PurePosixPath(source).is_absolute() or PureWindowsPath(source).is_absolute()
    return {
        "name": manifest.name,
        "source": PureWindowsPath(source).name if absolute else source,
        "precision": manifest.precision,
        "unet_sha256": unet_sha256(manifest),
        "graphs": graph_digests(manifest),
    }


def _schedule_type(request: Request) -> str | None:
    """As AUTOMATIC1111 calls it: without one it takes what its Automatic is, which differs by sampler."""
    if SAMPLERS[request.sampler].space is None or request.sigmas:
        return None
    name = (request.schedule or request.sigma_schedule).removeprefix(COMFYUI)
    return _SCHEDULE_TYPES.get(name, name.capitalize())


def _parameters(request: Request, made: MadeWith) -> str:
    manifest = made.manifest
    # whoever reads it back has the syntax on
    written = escape if request.prompt_syntax == "plain" else str
    settings = {
        "Steps": request.steps,
        "Sampler": SAMPLERS[request.sampler].title,
        "Schedule type": _schedule_type(request),
        "CFG scale": f"{request.guidance_scale:g}",
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": model_hash(manifest),
        "Model": manifest.name,
        # twelve digits, as AUTOMATIC1111 has them
        "Lora hashes": ", ".join(f"{lora.name}: {lora.tensors_sha256[:12]}" for lora in made.loras) or None,
        "TI hashes": ", ".join(f"{one.token}: {one.sha256[:12]}" for one in made.embeddings) or None,
        "Variation seed": request.variation_seed,
        "Variation seed strength": None if request.variation_seed is None else request.variation_strength,
        "Denoising strength": None if request.init_image is None else f"{request.strength:g}",
        "Mask blur": None if request.mask is None else f"{request.mask_blur:g}",
        "Clip skip": None if request.clip_skip == manifest.text[0].clip_skip else request.clip_skip,
        "RNG": "CPU",
        "Version": f"sdrt {sdrt.__version__}",
    }
    return format_parameters(written(request.title), written(request.negative_prompt), settings)
