"""What inpainting and edit models are shown beside the latents, as channels of the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sdrt.backends import Array
from sdrt.encode import Encoder
from sdrt.manifest import VaeSettings
from sdrt.noise import NoiseGenerator
from sdrt.samples import Conditions, Row
from sdrt.source_images import SourceImage

NAME = "image_latents"


class MaskedPicture:
    """For inpainting: the mask, as large as the latents, then the latents of the picture it is cut out of."""

    def __init__(self, encoder: Encoder, settings: VaeSettings, source: SourceImage) -> None:
        mask = source.painted
        assert mask is not None  # requests of inpainting models without one are refused
        self._latents = encoder.encode(np.where(mask, np.float32(0), source.values()))
        self._mask = mask[:: settings.scale_factor, :: settings.scale_factor].astype(np.float32)
        self._scale = np.float32(settings.scaling_factor)

    def condition(self, told: Conditions, noise: NoiseGenerator) -> Conditions:
        """All rows are shown the same, drawn with the next of `noise`."""
        shown = np.concatenate([self._mask[None], self._scale * self._latents.sample(noise)])
        return _each(told, lambda rows: [{**row, NAME: shown} for row in rows])


class PictureToChange:
    """For InstructPix2Pix: how much it keeps to the picture is guided like the prompt, by one more row.

    With a row that knows neither and one that knows the picture alone (Brooks et al. 2022, equation 3),

        m = none + image_guidance (picture - none) + guidance (both - picture)
    """

    def __init__(self, encoder: Encoder, source: SourceImage, image_guidance: float | None) -> None:
        self._latents: Array = encoder.encode(source.values()).mean
        self._guidance = image_guidance

    def condition(self, told: Conditions, noise: NoiseGenerator) -> Conditions:
        """The first of several rows, the negative prompt's, is told once more without the picture."""
        extra = 1.0 if self._guidance is None else self._guidance
        if len(told.rows) == 1 or extra == 1.0:
            return _each(told, self._shown)
        none = np.zeros_like(self._latents)

        def weights(of_prompts: Sequence[float]) -> list[float]:
            first, *others = of_prompts
            return [1.0 - extra, first + extra - 1.0, *others] if first != 0.0 else [0.0, first, *others]

        return _each(told, lambda rows: [{**rows[0], NAME: none}, *self._shown(rows)], weights)

    def _shown(self, rows: Sequence[Row]) -> list[Row]:
        return [{**row, NAME: self._latents} for row in rows]


def _each(
    told: Conditions,
    shown: Callable[[Sequence[Row]], list[Row]],
    weights: Callable[[Sequence[float]], Sequence[float]] = lambda weights: weights,
) -> Conditions:
    return Conditions(
        rows=shown(told.rows),
        guidance=weights(told.guidance),
        changes={k: shown(rows) for k, rows in told.changes.items()},
        reweighed={k: weights(own) for k, own in told.reweighed.items()},
    )
