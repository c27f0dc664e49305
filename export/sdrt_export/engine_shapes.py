"""Which shapes engines are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sdrt.errors import InputError
from sdrt.profiles import Profile, Range

if TYPE_CHECKING:
    from sdrt.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What was asked of shapes; what is None is the bundle's default, alone.

    batch: pictures made at once. static: no range along any axis, also not along the U-Net's rows. guided:
    whether a picture is two rows of the U-Net; None, if the bundle's default guidance makes it so.
    """

    width: Range | None = None
    height: Range | None = None
    batch: Range = field(default=Range.at(1))
    chunks: Range = field(default=Range.at(1))
    static: bool = False
    guided: bool | None = None

    def profile(self, manifest: Manifest) -> Profile:
        """For one bundle. Raises InputError if a size does not fit its VAE, or a range is to be static."""
        factor, defaults = manifest.vae.scale_factor, manifest.defaults
        width = self.width or Range.at(defaults.width)
        height = self.height or Range.at(defaults.height)
        for axis, sizes in (("width", width), ("height", height)):
            for size in (sizes.min, sizes.opt, sizes.max):
                if size % factor:
                    near = max(round(size / factor), 1) * factor
                    raise InputError(f"{axis} {size} is no multiple of {factor}; the nearest is {near}")
        guided = defaults.guidance_scale > 1 if self.guided is None else self.guided
        # with --guidance-interval a guided picture is one row for some of the steps
        each = 2 if guided else 1
        rows = Range(self.batch.min, each * self.batch.opt, each * self.batch.max)
        if self.static:
            asked = {"width": width, "height": height, "batch": self.batch, "chunks": self.chunks}
            ranged = next((name for name, sizes in asked.items() if sizes.min != sizes.max), None)
            if ranged:
                raise InputError(f"--static is for one shape, and {ranged} is {asked[ranged]}; give one size")
            rows = Range.at(rows.max)
        return Profile(pictures=self.batch, rows=rows, height=height, width=width, chunks=self.chunks)
