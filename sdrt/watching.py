"""What a batch would look like if it ended now, for whoever asks between two evaluations.

Nothing of it is computed, or loaded, unless it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdrt.backends import Device
from sdrt.decode import Decoder
from sdrt.denoise import Denoising
from sdrt.errors import InputError
from sdrt.manifest import LatentRgb, Manifest

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A running batch, and what makes pictures of its predictions.

    finish: what becomes of each decoded picture.
    """

    denoising: Denoising
    device: Device
    decoder: Decoder
    manifest: Manifest
    finish: Sequence[Callable[[Pixels], Pixels]]

    def predictions(self, done: int) -> list[Pixels]:
        """[H, W, 3] uint8 of each sample: x_0 after `done` evaluations, decoded; none before the first."""
        if done == 0:
            return []
        self._check(done)
        decoded = self.decoder.decode(self.denoising, self.denoising.predict())
        return [finish(pixels) for finish, pixels in zip(self.finish, decoded, strict=True)]

    def previews(self, done: int) -> list[Pixels]:
        """[h, w, 3] uint8 of each sample: the same, a pixel for each of its latents."""
        latent_rgb = latent_rgb_of(self.manifest)
        if done == 0:
            return []
        self._check(done)
        latents = self.device.download(self.denoising.predict())[:, 0]
        if not np.isfinite(latents).all():
            self.denoising.check()
        return [project(one, latent_rgb) for one in latents]

    def _check(self, done: int) -> None:
        now = self.denoising.done
        if done != now:
            raise InputError(
                f"the predictions of evaluation {done} are gone, the run is at evaluation {now}; "
                "ask for them while on_step is called"
            )


def latent_rgb_of(manifest: Manifest) -> LatentRgb:
    """The bundle's map from latents to RGB. Raises InputError if it has none."""
    if manifest.vae.latent_rgb is None:
        raise InputError(
            f"the bundle {manifest.name} has no map from latents to RGB; export it again, or have its "
            "predictions decoded, with --decoded"
        )
    return manifest.vae.latent_rgb


def project(latents: NDArray[np.float32], latent_rgb: LatentRgb) -> Pixels:
    """Latents [C, h, w], as a sampler has them, to RGB [h, w, 3]."""
    factors, bias = (np.asarray(values, np.float32) for values in (latent_rgb.factors, latent_rgb.bias))
    rgb = np.tensordot(latents, factors, axes=(0, 0)) + bias
    levels: Pixels = np.round(np.clip(rgb / 2 + 0.5, 0, 1) * 255).astype(np.uint8)
    return levels
