"""Where each parameter lies in a checkpoint of the original layout: one file, keys of the first code bases.

Stable Diffusion 1 and 2: https://github.com/Stability-AI/stablediffusion; XL:
https://github.com/Stability-AI/generative-models; OpenCLIP: https://github.com/mlfoundations/open_clip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from sdrt.original_names import original_unet_names

Layout = Literal["unet", "vae", "clip", "open_clip"]
THIRDS = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A parameter's tensor in a file, and how to take the parameter from it.

    third: which third of its rows it is, where query, key and value are stored as one. transposed: stored as
    [in, out]. squeezed: stored as a convolution of 1 x 1 and wanted as a matrix.
    """

    key: str
    third: int | None = None
    transposed: bool = False
    squeezed: bool = False

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the parameter if the tensor has the shape `stored`."""
        if self.third is not None and stored[:1] and stored[0] % len(THIRDS) == 0:
            return (stored[0] // len(THIRDS), *stored[1:])
        while self.squeezed and len(stored) > 2 and stored[-1] == 1:
            stored = stored[:-1]
        return stored[::-1] if self.transposed else stored

    def take(self, stored: Tensor) -> Tensor:
        """The parameter, contiguous, in the tensor's dtype."""
        if self.third is not None:
            return stored.chunk(len(THIRDS))[self.third]
        tensor = stored.reshape(self.shape(tuple(stored.shape))) if self.squeezed else stored
        return tensor.T.contiguous() if self.transposed else tensor


@dataclass(frozen=True)
class Part:
    """One component in a file: what its keys begin with, and how they go on."""

    prefix: str
    layout: Layout


def find_places(part: Part, names: Iterable[str], keys: Collection[str]) -> dict[str, Place]:
    """Parameter names of a whole component -> their places in a file with these keys.

    Places that the file should have and has not are among them. A name that has none in the original layout
    is left out.
    """
    places = _PLACES[part.layout](list(names))
    return {name: _spelled(part.prefix, place, keys) for name, place in places.items()}


def left_over(part: Part, places: Mapping[str, Place], keys: Iterable[str]) -> list[str]:
    """Keys of a component that no parameter needs and that are not known to be idle."""
    idle = [*_IDLE[part.layout]]
    layers = {int(number) for name in places for number in re.findall(r"layers\.(\d+)\.", name)}
    if part.layout == "open_clip" and not any(place.transposed for place in places.values()):
        # Stable Diffusion 2 attends to what goes into the last layer, so that diffusers leaves that one out
        idle.append(rf"transformer\.resblocks\.{1 + max(layers, default=-1)}\..*")
    known = re.compile("|".join(idle)) if idle else None
    used = {place.key for place in places.values()}
    rest = [key for key in keys if key.startswith(part.prefix) and key not in used]
    return [key for key in rest if known is None or not known.fullmatch(key.removeprefix(part.prefix))]


# What training and other tools leave among the keys of a component.
_IDLE: dict[Layout, tuple[str, ...]] = {
    "unet": (),
    "vae": (r"loss\..*", r"model_ema\..*"),
    "clip": (r".*position_ids", r"logit_scale", r"text_projection(\.weight)?"),
    "open_clip": (r".*position_ids", r"logit_scale", r"text_projection(\.weight)?", r"attn_mask"),
}


def _spelled(prefix: str, place: Place, keys: Collection[str]) -> Place:
    """The place with its whole key, in the spelling of the file."""
    key = prefix + place.key
    if key not in keys:
        # of transformers whose text encoder was one module less deep
        bare = prefix + place.key.removeprefix("text_model.")
        if bare in keys:
            return replace(place, key=bare)
        if place.transposed and f"{key}.weight" in keys:  # stored as a layer's, which is not transposed
            return replace(place, key=f"{key}.weight", transposed=False)
    return replace(place, key=key)


def _unet_places(names: list[str]) -> dict[str, Place]:
    return {name: Place(key=key) for name, key in original_unet_names(names).items()}


_VAE = (
    (r"(encoder|decoder)\.conv_norm_out\.", r"\1.norm_out."),
    (r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.", r"encoder.down.\1.block.\2."),
    (r"encoder\.down_blocks\.(\d+)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
    (r"(encoder|decoder)\.mid_block\.resnets\.0\.", r"\1.mid.block_1."),
    (r"(encoder|decoder)\.mid_block\.resnets\.1\.", r"\1.mid.block_2."),
    (r"(encoder|decoder)\.mid_block\.attentions\.0\.", r"\1.mid.attn_1."),
    (r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\.", r"decoder.up.\1.block.\2."),
    (r"decoder\.up_blocks\.(\d+)\.upsamplers\.0\.", r"decoder.up.\1.upsample."),
    (r"(.*)\.conv_shortcut\.", r"\1.nin_shortcut."),
    (r"(.*\.attn_1)\.group_norm\.", r"\1.norm."),
    (r"(.*\.attn_1)\.to_([qkv])\.", r"\1.\2."),
    (r"(.*\.attn_1)\.to_out\.0\.", r"\1.proj_out."),
)
_UP = re.compile(r"decoder\.up\.(\d+)\.")


def _vae_places(names: list[str]) -> dict[str, Place]:
    keys = {name: _replaced(name, _VAE) for name in names}
    last = max((int(up[1]) for key in keys.values() if (up := _UP.match(key))), default=0)
    return {
        name: Place(
            # the original counts the decoder's blocks from the picture
            key=_UP.sub(lambda up: f"decoder.up.{last - int(up[1])}.", key),
            squeezed=".attn_1." in key and key.endswith(".weight"),
        )
        for name, key in keys.items()
    }


def _clip_places(names: list[str]) -> dict[str, Place]:
    return {name: Place(key=f"text_model.{name.removeprefix('text_model.')}") for name in names}


_OPEN_CLIP = (
    (r"embeddings\.token_embedding\.", "token_embedding."),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"final_layer_norm\.", "ln_final."),
    (r"text_projection\.weight", "text_projection"),
    (r"encoder\.layers\.(\d+)\.", r"transformer.resblocks.\1."),
    (r"(.*)\.layer_norm([12])\.", r"\1.ln_\2."),
    (r"(.*)\.mlp\.fc1\.", r"\1.mlp.c_fc."),
    (r"(.*)\.mlp\.fc2\.", r"\1.mlp.c_proj."),
    (r"(.*)\.self_attn\.out_proj\.", r"\1.attn.out_proj."),
    (r"(.*)\.self_attn\.[qkv]_proj\.", r"\1.attn.in_proj_"),
)


def _open_clip_places(names: list[str]) -> dict[str, Place]:
    places = {}
    for name in names:
        key = _replaced(name.removeprefix("text_model."), _OPEN_CLIP)
        third = next((THIRDS.index(part) for part in name.split(".") if part in THIRDS), None)
        places[name] = Place(key=key, third=third, transposed=key == "text_projection")
    return places


def _replaced(name: str, table: Iterable[tuple[str, str]]) -> str:
    """The name with every pattern replaced that stands at its beginning."""
    for pattern, instead in table:
        name = re.sub(rf"\A{pattern}", instead, name)
    return name


_PLACES: dict[Layout, Callable[[list[str]], dict[str, Place]]] = {
    "unet": _unet_places,
    "vae": _vae_places,
    "clip": _clip_places,
    "open_clip": _open_clip_places,
}
