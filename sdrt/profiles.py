"""Which shapes an engine is for: a range along each axis that a graph leaves free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from sdrt.errors import InputError
from sdrt.tensors import TensorSpec

if TYPE_CHECKING:
    from sdrt.manifest import Manifest

Shape = tuple[int, ...]


class Range(msgspec.Struct, frozen=True):
    """Sizes along an axis: from min to max, quickest at opt."""

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise ValueError(f"{self.min}:{self.opt}:{self.max} is no range: expected 1 <= min <= opt <= max")

    @classmethod
    def at(cls, size: int) -> Self:
        """One size alone."""
        return cls(size, size, size)

    @classmethod
    def parse(cls, text: str) -> Self:
        """`512`, or `512:768:1024` for min, opt and max. Raises InputError if it is neither."""
        try:
            sizes = [int(part) for part in text.split(":")]
            return cls.at(*sizes) if len(sizes) == 1 else cls(*sizes)
        except (ValueError, TypeError):
            raise InputError(
                f"{text!r} is no range of sizes: write one size, or min:opt:max in rising order"
            ) from None

    def __contains__(self, size: int) -> bool:
        return self.min <= size <= self.max

    def __str__(self) -> str:
        return str(self.min) if self.min == self.max else f"{self.min}-{self.max}"


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shapes of all graphs of a bundle.

    pictures: made in one batch. rows: of the U-Net's batch, two for each guided picture. height, width: of a
    picture, in pixels. chunks: of 77 tokens, that a prompt is.
    """

    pictures: Range
    rows: Range
    height: Range
    width: Range
    chunks: Range = Range.at(1)

    def makes(self, width: int, height: int) -> bool:
        """Whether it has pictures of this size."""
        return width in self.width and height in self.height

    @property
    def name(self) -> str:
        """Short, as in the name of a file."""
        return f"n{self.pictures}-r{self.rows}-h{self.height}-w{self.width}-c{self.chunks}"

    @property
    def described(self) -> str:
        """For people."""
        return (
            f"{self.width}x{self.height}, {self.pictures} pictures at once, {self.rows} rows of the U-Net, "
            f"prompts of {self.chunks} x 77 tokens"
        )


class ShapeRange(NamedTuple):
    """The smallest, the quickest and the largest shape of one input."""

    min: Shape
    opt: Shape
    max: Shape

    def __contains__(self, shape: object) -> bool:
        return isinstance(shape, tuple) and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max, strict=True)
        )

    @property
    def room(self) -> int:
        """How many shapes there are."""
        count = 1
        for low, high in zip(self.min, self.max, strict=True):
            count *= high - low + 1
        return count


def input_ranges(
    manifest: Manifest, graph: str, inputs: Mapping[str, TensorSpec], profile: Profile
) -> dict[str, ShapeRange]:
    """What a profile makes of the inputs of one graph, by name.

    graph: one of the bundle's by its name, or `step`, `latents` or `pixels`.
    """
    corners = [_sizes(manifest, profile, corner) for corner in ("min", "opt", "max")]
    ranges = {}
    for name, spec in inputs.items():
        axes = tuple(_axes(graph, name, spec))
        ranges[name] = ShapeRange(
            *(tuple(sizes[axis] if isinstance(axis, str) else axis for axis in axes) for sizes in corners)
        )
    return ranges


def _sizes(manifest: Manifest, profile: Profile, corner: str) -> dict[str, int]:
    size = {field: getattr(getattr(profile, field), corner) for field in profile.__struct_fields__}
    factor = manifest.vae.scale_factor
    return {
        **size,
        "one": 1,
        "channels": manifest.vae.latent_channels,
        "latent_height": size["height"] // factor,
        "latent_width": size["width"] // factor,
        "tokens": size["chunks"] * manifest.text[0].max_length,
        # one picture may have all rows, as one of a prompt with AND has: it has fewest where most share them
        "rows_per_picture": max(size["rows"] // getattr(profile.pictures, _FEWEST_ROWS[corner]), 1),
    }


_FEWEST_ROWS = {"min": "max", "opt": "opt", "max": "min"}
_LATENT_SIZE = ("latent_height", "latent_width")
# the axes that are free in the graphs of sdrt/graphs, in their order
_SMALL: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "step": {
        "out_sample": ("rows", "channels", *_LATENT_SIZE),
        "state": ("pictures", "channels", *_LATENT_SIZE),
        "noise": ("pictures", "channels", *_LATENT_SIZE),
        "matrix": ("pictures",),
        "guidance": ("pictures", "rows_per_picture"),
        "rows": ("pictures", "rows_per_picture"),
        "owners": ("rows",),
        "c_in": ("pictures",),
        "finite": ("pictures",),
        "free": ("pictures", *_LATENT_SIZE),
        "held": ("pictures", "channels", *_LATENT_SIZE),
        "hold": ("pictures",),
    },
    "latents": {"state": ("pictures", "channels", *_LATENT_SIZE), "scale": ()},
    "pixels": {"image": ("pictures", "height", "width")},
}
_BATCH = {
    "text_encoder": "one",
    "text_encoder_2": "one",
    "unet": "rows",
    "unet_shallow": "rows",
    "vae_decoder": "pictures",
    "vae_decoder_fp32": "pictures",
    "vae_encoder": "one",
}


def _axes(graph: str, name: str, spec: TensorSpec) -> Iterator[str | int]:
    """Each axis of an input: its size, or the name of what it counts."""
    if graph in _SMALL:
        free = iter(_SMALL[graph][name])
    elif len(spec.shape) == 4:
        free = iter((_BATCH[graph], *(("height", "width") if graph == "vae_encoder" else _LATENT_SIZE)))
    else:
        free = iter((_BATCH[graph], "tokens"))
    return (next(free) if axis is None else axis for axis in spec.shape)
