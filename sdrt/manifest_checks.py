"""Whether a manifest's settings are possible, and are what its graphs take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sdrt.schedule_ranges import check_range, check_schedule

if TYPE_CHECKING:
    from sdrt.manifest import GraphEntry, GraphName, Manifest
    from sdrt.tensors import TensorSpec

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DTYPES = frozenset({"float32", "float16", "bfloat16", "uint8", "int32", "int64", "bool"})
_MAX_ID = 10_000_000  # the largest vocabularies have a fortieth of that
_MAX_AXIS = 2**31 - 1
_MAX_FILE = 2**50  # bytes


def check_manifest(manifest: Manifest) -> None:
    """Raise ValueError naming the first field that is out of range or contradicts another."""
    _check_graphs(manifest)
    check_schedule(manifest.schedule)
    for field, value, least, largest in _numbers(manifest):
        check_range(field, value, least, largest)
    for name, file in manifest.files.items():
        if not _SHA256.fullmatch(file.sha256):
            raise ValueError(f"the sha256 of {name!r} is not 64 hex digits")
    for graph, entry in manifest.graphs.items():
        for key, spec in (*entry.inputs.items(), *entry.outputs.items()):
            _check_spec(f"{key} of {graph}", spec)
    _check_inputs(manifest)
    _check_axes(manifest)


def _numbers(manifest: Manifest) -> Iterator[tuple[str, float, float, float]]:
    """Name, value, least and largest value of what is a number."""
    defaults, vae = manifest.defaults, manifest.vae
    yield "defaults.width", defaults.width, 1, 65_536
    yield "defaults.height", defaults.height, 1, 65_536
    yield "defaults.steps", defaults.steps, 1, 10_000
    yield "defaults.guidance_scale", defaults.guidance_scale, -1000, 1000
    yield "vae.scaling_factor", vae.scaling_factor, 1e-6, 1e6
    yield "vae.scale_factor", vae.scale_factor, 1, 256
    yield "vae.latent_channels", vae.latent_channels, 1, 4096
    yield "made_by.opset", manifest.made_by.opset, 1, 1000
    if manifest.conditioning.guidance_embedding is not None:
        yield "conditioning.guidance_embedding", manifest.conditioning.guidance_embedding, 1, 65_536
    for text in manifest.text:
        yield "text.max_length", text.max_length, 3, 65_536
        for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
            yield f"text.{field}", getattr(text, field), 0, _MAX_ID
    for file in manifest.files.values():
        yield "the size of a file", file.size, 0, _MAX_FILE


def _check_spec(called: str, spec: TensorSpec) -> None:
    if spec.dtype not in _DTYPES:
        raise ValueError(
            f"the dtype of {called} is {spec.dtype[:30]!r}; expected {', '.join(sorted(_DTYPES))}"
        )
    for axis in spec.shape:
        if axis is not None:
            check_range(f"an axis of {called}", axis, 0, _MAX_AXIS)


def _check_graphs(manifest: Manifest) -> None:
    """Whether the graphs that every picture needs are there."""
    needed: list[GraphName] = [*(text.graph for text in manifest.text), "unet", "vae_decoder"]
    for name in needed:
        if name not in manifest.graphs:
            raise ValueError(f"it has no {name} graph")


def _check_inputs(manifest: Manifest) -> None:
    """Whether the U-Net takes what it will be told, and the text encoders give what it is told."""
    told = {"sample", "timestep", "encoder_hidden_states"}
    told |= {"text_embeds" for text in manifest.text if text.pooled is not None}
    told |= {"time_ids"} if manifest.conditioning.time_ids is not None else set()
    told |= {"timestep_cond"} if manifest.conditioning.guidance_embedding is not None else set()
    told |= {"image_latents"} if manifest.conditioning.picture is not None else set()
    unet = manifest.graphs.get("unet")
    if unet and set(unet.inputs) != told:
        raise ValueError(f"the unet takes {sorted(unet.inputs)}, its settings are for {sorted(told)}")
    shallow = manifest.graphs.get("unet_shallow")
    if shallow:
        _check_shallow(shallow, unet, told)
    for text in manifest.text:
        graph = manifest.graphs.get(text.graph)
        for output in (text.hidden_states, text.pooled, *text.clip_skip_outputs):
            if graph and output is not None and output not in graph.outputs:
                raise ValueError(f"the {text.graph} has no output {output}")


def _check_shallow(shallow: GraphEntry, unet: GraphEntry | None, told: set[str]) -> None:
    """Whether the U-Net's second graph takes what the first one gives, and is told nothing else."""
    deep = shallow.inputs.get("deep_features")
    if deep is None or unet is None or unet.outputs.get("deep_features") != deep:
        raise ValueError("the unet does not give the deep_features that the unet_shallow takes")
    if not set(shallow.inputs) <= told | {"deep_features"}:
        raise ValueError(f"the unet_shallow takes {sorted(shallow.inputs)}, it is told {sorted(told)}")


def _check_axes(manifest: Manifest) -> None:
    """Whether the settings are what the graphs take, where these leave no choice."""
    said: tuple[tuple[str, int, GraphName, str], ...] = (
        *(("text.max_length", text.max_length, text.graph, "input_ids") for text in manifest.text),
        ("vae.latent_channels", manifest.vae.latent_channels, "unet", "sample"),
        ("vae.latent_channels", manifest.vae.latent_channels, "vae_decoder", "latent_sample"),
    )
    for field, value, graph, key in said:
        entry = manifest.graphs.get(graph)
        spec = entry.inputs.get(key) if entry else None
        if spec and len(spec.shape) > 1 and spec.shape[1] not in (None, value):
            raise ValueError(f"{field} is {value}, the {key} of {graph} has {spec.shape[1]}")
    latent_rgb = manifest.vae.latent_rgb
    if latent_rgb and len(latent_rgb.factors) != manifest.vae.latent_channels:
        channels = manifest.vae.latent_channels
        raise ValueError(f"vae.latent_rgb has {len(latent_rgb.factors)} factors for {channels} channels")
