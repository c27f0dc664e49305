"""What a request says of the picture it begins with, checked against the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

from sdrt.errors import InputError, UnknownNameError
from sdrt.manifest import Manifest
from sdrt.source_images import Alpha, Fit, Sides, SourceSize, source_size

IMAGE_GUIDANCE = 1.5  # as in diffusers and in the paper's figures
STRENGTH = 0.8  # as in diffusers; what is painted anew, is wholly
MASK_BLUR = 4.0  # as in AUTOMATIC1111
_MOST_BLUR = 256.0
NO_SIDES: Sides = (0, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class PictureSettings:
    """Fields of a `Request`, before there is one; None is the default, as far as there is one."""

    init_image: Path | None = None
    strength: float | None = None
    start_step: int | None = None
    fit: Fit = "crop"
    alpha: Alpha = "hole"
    mask: Path | None = None
    mask_blur: float = MASK_BLUR
    outpaint: int | Sides = 0
    image_guidance: float | None = None

    def check(self, manifest: Manifest) -> None:
        """Raises InputError for what the model cannot do, or what does not go together."""
        seen = manifest.conditioning.picture
        if self.init_image is None:
            self._check_without(seen)
        elif "vae_encoder" not in manifest.graphs:
            raise InputError(
                f"the bundle {manifest.name} has no VAE encoder to read a picture with; export it again"
            )
        elif seen == "inpainting" and not self._paints:
            raise InputError(
                "this is an inpainting model; say what it may change with --mask, white on black, or with a "
                "transparent hole in the picture"
            )
        if seen == "edit" and self.mask is not None:
            raise InputError("InstructPix2Pix models change the whole picture; leave --mask out")
        if seen == "edit" and (self.strength is not None or self.start_step is not None):
            raise InputError("InstructPix2Pix models begin with noise; say --image-guidance, not a strength")
        if seen != "edit" and self.image_guidance is not None:
            raise InputError("image guidance is for InstructPix2Pix models; leave --image-guidance out")
        for kind, value, known in (("fit", self.fit, get_args(Fit)), ("alpha", self.alpha, get_args(Alpha))):
            if value not in known:
                raise UnknownNameError(kind, value, known)
        if not 0 <= self.mask_blur <= _MOST_BLUR:
            raise InputError(f"mask blur is {self.mask_blur:g}; expected 0 to {_MOST_BLUR:g} pixels")

    def _check_without(self, seen: str | None) -> None:
        if seen is not None:
            what = "--init-image and --mask" if seen == "inpainting" else "--init-image"
            raise InputError(f"this model changes a picture; give it one with {what}")
        for option, value in (
            ("--mask", self.mask),
            ("--strength", self.strength),
            ("--outpaint", self.sides if self.sides != NO_SIDES else None),
        ):
            if value is not None:
                raise InputError(f"{option} is for a picture to begin with; give it with --init-image")

    @property
    def sides(self) -> Sides:
        """What is to be painted around the picture. Raises InputError for a negative number."""
        sides = (self.outpaint,) * 4 if isinstance(self.outpaint, int) else tuple(self.outpaint)
        if len(sides) != 4 or min(sides) < 0:
            raise InputError(f"outpaint is {self.outpaint}; expected pixels: left, top, right, bottom")
        return sides

    def size(
        self, manifest: Manifest, width: int | None, height: int | None
    ) -> tuple[int | None, int | None]:
        """Of the run: as asked, the other side in proportion; the picture's own, if neither is."""
        if self.init_image is None:
            return width, height
        factor, own = manifest.vae.scale_factor, self._own
        left, top, right, bottom = self.sides
        for name, added in zip(("left", "top", "right", "bottom"), self.sides, strict=True):
            if added % factor:
                near = added // factor * factor
                raise InputError(
                    f"outpaint {name} is {added}, not a multiple of {factor}; the nearest are {near} and "
                    f"{near + factor}"
                )
        if width is None and height is None:
            return (
                max(own.width - own.width % factor, factor) + left + right,
                max(own.height - own.height % factor, factor) + top + bottom,
            )
        if width is None:
            assert height is not None
            scale = (height - top - bottom) / own.height
            width = _near(own.width * scale, factor) + left + right
        elif height is None:
            scale = (width - left - right) / own.width
            height = _near(own.height * scale, factor) + top + bottom
        if width <= left + right or height <= top + bottom:
            raise InputError(
                f"{width}x{height} leaves no room for the picture within what is to be painted around it"
            )
        return width, height

    def first_step(self, manifest: Manifest, steps: int) -> int:
        """The step that a run of `steps` begins with, from 0."""
        if manifest.conditioning.picture == "edit" or (self.init_image is None and self.start_step is None):
            return 0
        if self.start_step is not None:  # without a picture the run begins with less noise, on nothing
            if self.strength is not None:
                raise InputError("--strength and --start-step say the same thing; leave one out")
            if not 0 <= self.start_step < steps:
                raise InputError(
                    f"start step is {self.start_step}; expected 0 to {steps - 1} of {steps} steps"
                )
            return self.start_step
        if self.strength is None:
            return 0 if self._paints else steps - max(int(steps * STRENGTH), 1)
        strength = self.strength
        if not 0 <= strength <= 1:
            raise InputError(
                f"strength is {strength:g}; expected 0 to 1, the part of the steps that is taken"
            )
        taken = int(steps * strength)  # as diffusers rounds it
        if taken == 0:
            raise InputError(
                f"strength {strength:g} of {steps} steps is no step; take {1 / steps:.2g}, or more steps"
            )
        return steps - taken

    def image_guidance_scale(self, manifest: Manifest) -> float | None:
        """Of an edit model, towards the picture; None for others."""
        if manifest.conditioning.picture != "edit":
            return None
        guidance = IMAGE_GUIDANCE if self.image_guidance is None else float(self.image_guidance)
        if not math.isfinite(guidance):
            raise InputError(f"image guidance is {guidance}; expected a finite number, 1 for none")
        return guidance

    @cached_property
    def _own(self) -> SourceSize:
        """Of the picture, which is decoded for it: once for each request."""
        assert self.init_image is not None
        return source_size(self.init_image)

    @property
    def _paints(self) -> bool:
        hole = self._own.has_hole and self.alpha == "hole"
        return self.mask is not None or hole or self.sides != NO_SIDES


def _near(side: float, factor: int) -> int:
    return max(round(side / factor), 1) * factor
