"""Finished latents to pixels: scale, VAE decoder, 8 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdrt import graphs
from sdrt.backends import Backend, Buffer, Runtime
from sdrt.errors import ComputeError
from sdrt.manifest import VaeSettings


class Decoder:
    """The VAE decoder of a bundle between its two small graphs."""

    def __init__(self, runtime: Runtime, vae: Backend, settings: VaeSettings) -> None:
        self._device = runtime.device
        self._vae = vae
        self._settings = settings
        self._dtype = vae.inputs["latent_sample"].dtype
        self._latents = runtime.load(graphs.path("latents", self._dtype), small=True)
        self._pixels = runtime.load(graphs.path("pixels", self._dtype), small=True)

    def decode(self, state: Buffer) -> NDArray[np.uint8]:
        """Pictures of a finished state [B, SLOTS, C, h, w]: [B, H, W, 3] uint8 RGB.

        Raises ComputeError naming the graph if NaN or Inf came out of it: never a black picture.
        """
        device, factor = self._device, self._settings.scale_factor
        batch, _, channels, h, w = state.shape
        scale = device.empty((), "float32")
        device.upload(np.asarray(1.0 / self._settings.scaling_factor, np.float32), scale)
        latents = device.empty((batch, channels, h, w), self._dtype)
        image = device.empty((batch, 3, h * factor, w * factor), self._vae.outputs["sample"].dtype)
        pixels = device.empty((batch, h * factor, w * factor, 3), "uint8")
        latents_finite, image_finite = device.empty((batch,), "bool"), device.empty((batch,), "bool")

        self._latents.bind(
            {"state": state, "scale": scale, "latent_sample": latents, "finite": latents_finite}
        )
        self._vae.bind({"latent_sample": latents, "sample": image})
        self._pixels.bind({"image": image, "pixels": pixels, "finite": image_finite})
        self._latents.run()
        self._vae.run()
        self._pixels.run()
        if not device.download(latents_finite).all():
            raise ComputeError(
                "the unet graph gave NaN or Inf; with an FP16 bundle try one exported with --precision fp32, "
                "else another sampler, more steps or less guidance"
            )
        if not device.download(image_finite).all():
            raise ComputeError(
                "the vae_decoder graph gave NaN or Inf; try a bundle exported with --precision fp32"
            )
        return device.download(pixels)

    def close(self) -> None:
        """Free the three graphs."""
        for graph in (self._latents, self._vae, self._pixels):
            graph.close()
