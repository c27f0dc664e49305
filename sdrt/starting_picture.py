"""Where a run begins that is given a picture, and what of it the run may not change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sdrt.backends import Array
from sdrt.encode import Encoder, LatentDistribution
from sdrt.errors import InputError
from sdrt.manifest import VaeSettings
from sdrt.noise import NoiseGenerator
from sdrt.samplers import SamplerTable
from sdrt.samples import Held
from sdrt.shown_picture import MaskedPicture, PictureToChange
from sdrt.source_images import SourceImage


@dataclass(frozen=True, kw_only=True)
class GivenPicture:
    """A picture that a request gives, in the parts it plays.

    files: SHA-256 of what it was read of, by field of the request. start: where the run begins; None if from
    noise alone. shown: what the model sees; None if nothing.
    """

    source: SourceImage
    files: Mapping[str, str]
    start: StartingPicture | None = None
    shown: MaskedPicture | PictureToChange | None = None


class StartingPicture:
    """A picture whose latents get noise (SDEdit, Meng et al. 2021, https://arxiv.org/abs/2108.01073).

    holds: every step puts back what is not painted anew; inpainting models, which see it, need no such help.
    """

    def __init__(self, encoder: Encoder, settings: VaeSettings, source: SourceImage, *, holds: bool) -> None:
        self._encoder = encoder
        self._settings = settings
        self._source = source
        self._free = None
        self._holds = holds and source.painted is not None
        if source.painted is not None:
            # of each place of the latents the first pixel counts, as with torch's nearest neighbour
            self._free = source.painted[:: settings.scale_factor, :: settings.scale_factor]
            if not self._free.any():
                raise InputError(
                    f"nothing would be painted: one pixel in {settings.scale_factor} counts along each side, "
                    "and none of them is white in the mask; make its white part larger"
                )

    @cached_property
    def _encoded(self) -> LatentDistribution:
        return self._encoder.encode(self._source.values())

    def begin(
        self, table: SamplerTable, noise: NoiseGenerator, draw: Callable[[], Array]
    ) -> tuple[Array, Held | None]:
        """The run's first latents [C, h, w] float32 in the sampler's own scale, and what it is held to.

        draw: gives the run's first noise [C, h, w]. The order in which noise is drawn is diffusers': for the
        picture's latents, for the run, for the latents of the picture without what is painted anew.
        """
        # a whole run that paints anew knows nothing of what was there
        afresh = self._free is not None and table.steps[0] == 0
        if afresh and not self._holds:
            return np.float32(table.initial_scale) * draw(), None
        latents: Array = np.float32(self._settings.scaling_factor) * self._encoded.sample(noise)
        drawn = draw()
        first: Array = np.float32(table.alphas[0]) * latents + np.float32(table.sigmas[0]) * drawn
        if afresh:
            first = np.float32(table.initial_scale) * drawn
        if self._free is None or not self._holds:
            return first, None
        noise.randn((1, *latents.shape))  # diffusers draws for the third kind here too, and uses it not
        return first, Held(free=self._free, latents=latents, noise=drawn)
