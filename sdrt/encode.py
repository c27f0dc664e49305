"""Pictures to latents: the VAE encoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdrt.backends import Backend, Runtime
from sdrt.errors import ComputeError
from sdrt.manifest import VaeSettings
from sdrt.noise import NoiseGenerator

# diffusers' bounds of the log variance
_SMALLEST, _LARGEST = -30.0, 20.0


class Encoder:
    """The VAE encoder of a bundle."""

    def __init__(self, runtime: Runtime, vae: Backend, settings: VaeSettings) -> None:
        self._device = runtime.device
        self._vae = vae
        self._settings = settings

    def encode(self, image: NDArray[np.float32]) -> LatentDistribution:
        """A picture [3, H, W] in -1..1 to the distribution of its latents.

        Raises ComputeError if NaN or Inf came out.
        """
        empty, factor = self._device.empty, self._settings.scale_factor
        height, width = image.shape[1:]
        latents = (1, 2 * self._settings.latent_channels, height // factor, width // factor)
        buffers = {
            "sample": empty((1, 3, height, width), self._vae.inputs["sample"].dtype),
            "latent_parameters": empty(latents, self._vae.outputs["latent_parameters"].dtype),
        }
        self._vae.bind(buffers)
        self._device.upload(image[None], buffers["sample"])
        self._vae.run()
        parameters = self._device.download(buffers["latent_parameters"])[0].astype(np.float32)
        if not np.isfinite(parameters).all():
            raise ComputeError(
                "the vae_encoder graph gave NaN or Inf; try a bundle exported with --precision fp32"
            )
        return LatentDistribution(parameters)

    def close(self) -> None:
        """Free the graph."""
        self._vae.close()


class LatentDistribution:
    """What the encoder says of a picture: a normal distribution of each latent, not yet scaled.

    parameters: [2C, h, w] float32, mean and log variance.
    """

    def __init__(self, parameters: NDArray[np.float32]) -> None:
        self.mean, self.log_variance = np.split(parameters, 2)

    def sample(self, noise: NoiseGenerator) -> NDArray[np.float32]:
        """Latents [C, h, w] drawn with the next of `noise`."""
        deviation = np.exp(0.5 * np.clip(self.log_variance, _SMALLEST, _LARGEST))
        drawn: NDArray[np.float32] = self.mean + deviation * noise.randn((1, *self.mean.shape))[0]
        return drawn
