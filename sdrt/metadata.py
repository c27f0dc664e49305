"""What a PNG says of how it was made: AUTOMATIC1111's `parameters` text and sdrt's own JSON, `sdrt`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import sdrt
from sdrt.manifest import Manifest
from sdrt.prompt import escape
from sdrt.request import Request
from sdrt.samplers import SAMPLERS

if TYPE_CHECKING:
    from sdrt.lora import AppliedLora
    from sdrt.textual_inversion import Embedding

PARAMETERS, OWN = "parameters", "sdrt"


def texts(
    request: Request,
    manifest: Manifest,
    backend: str,
    loras: Sequence[AppliedLora] = (),
    embeddings: Sequence[Embedding] = (),
) -> dict[str, str]:
    """The text chunks of a picture, by keyword. A NUL would end a chunk early and is written as U+FFFD."""
    own = _own(request, manifest, backend) | describe_added(loras, embeddings)
    # twelve digits, as AUTOMATIC1111 has them
    hashes = {
        "Lora hashes": ", ".join(f"{lora.name}: {lora.tensors_sha256[:12]}" for lora in loras),
        "TI hashes": ", ".join(f"{one.token}: {one.sha256[:12]}" for one in embeddings),
    }
    parameters = _parameters(request, manifest, hashes).replace("\0", "\ufffd")
    return {PARAMETERS: parameters, OWN: json.dumps(own, ensure_ascii=False)}


def parse_parameters(text: str) -> dict[str, str]:
    """An AUTOMATIC1111 `parameters` text back to its fields, `Prompt` and `Negative prompt` among them."""
    body, _, last = text.rpartition("\n")
    pairs = dict(_pairs(last))
    if "Steps" not in pairs:
        body, pairs = text, {}
    prompt, _, negative = body.partition("\nNegative prompt: ")
    fields = {key.strip(): _unquoted(value.strip()) for key, value in pairs.items()}
    return {"Prompt": prompt, **({"Negative prompt": negative} if negative else {}), **fields}


# no two parts of it can match the same text: a stranger's picture must not make it slow
_PAIR = re.compile(r'\s*(\w[\w ]*):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(line):
        pair = _PAIR.match(line, at)
        if pair:
            yield pair[1], pair[2]
        at = pair.end() if pair else (line.find(",", at) + 1 or len(line))


def _parameters(request: Request, manifest: Manifest, hashes: Mapping[str, str]) -> str:
    # as modules/processing.py of AUTOMATIC1111 lays it out: prompt, negative prompt, one line of settings
    settings = {
        "Steps": request.steps,
        "Sampler": SAMPLERS[request.sampler].title,
        "Schedule type": None if request.sigma_schedule == "plain" else request.sigma_schedule.capitalize(),
        "CFG scale": f"{request.guidance_scale:g}",
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": model_hash(manifest),
        "Model": manifest.name,
        **{key: value or None for key, value in hashes.items()},
        "Clip skip": None if request.clip_skip == manifest.text[0].clip_skip else request.clip_skip,
        "RNG": "CPU",
        "Version": f"sdrt {sdrt.__version__}",
    }
    line = ", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items() if value is not None)
    # whoever reads it back has the syntax on
    written = escape if request.prompt_syntax == "plain" else str
    negative = f"\nNegative prompt: {written(request.negative_prompt)}" if request.negative_prompt else ""
    return f"{written(request.prompt)}{negative}\n{line}"


def _own(request: Request, manifest: Manifest, backend: str) -> dict[str, Any]:
    return {
        "version": sdrt.__version__,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "width": request.width,
        "height": request.height,
        "steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "sampler": request.sampler,
        "sigma_schedule": request.sigma_schedule,
        "eta": request.eta,
        "spacing": request.spacing,
        "seed": request.seed,
        "guidance_interval": request.guidance_interval,
        "deep_cache": request.deep_cache,
        "prompt_syntax": request.prompt_syntax,
        "clip_skip": request.clip_skip,
        **_pictures(request),
        "model": {
            "name": manifest.name,
            "source": manifest.made_by.source,
            "precision": manifest.precision,
            "unet_sha256": _unet_sha256(manifest),
        },
        "backend": backend,
    }


def _pictures(request: Request) -> dict[str, Any]:
    given = {"init_image": request.init_image, "mask": request.mask}
    named: dict[str, Any] = {name: path.name for name, path in given.items() if path is not None}
    return named | ({} if request.image_guidance is None else {"image_guidance": request.image_guidance})


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
    """The first ten hex digits of the U-Net weights' SHA-256: which model this was, among bundles."""
    return _unet_sha256(manifest)[:10]


def _unet_sha256(manifest: Manifest) -> str:
    path = manifest.graphs["unet"].path
    weights = manifest.files.get(f"{PurePosixPath(path).parent}/model.onnx.data", manifest.files[path])
    return weights.sha256


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:\n"]', text) else text


def _unquoted(text: str) -> str:
    if text.startswith('"') and text.endswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            return text
    return text
