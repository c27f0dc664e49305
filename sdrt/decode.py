"""Latents to pixels: scale, VAE decoder, 8 bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sdrt import graphs
from sdrt.backends import Backend, Buffer, Runtime
from sdrt.denoise import Denoising
from sdrt.errors import ComputeError, EngineError
from sdrt.manifest import VaeSettings


class Decoder:
    """The VAE decoder of a bundle between its two small graphs.

    precise: makes the decoder that pictures are given to which this one spoils; None if there is none.
    """

    def __init__(
        self,
        runtime: Runtime,
        vae: Backend,
        settings: VaeSettings,
        *,
        precise: Callable[[], Decoder] | None = None,
    ) -> None:
        self._device = runtime.device
        self._vae = vae
        self._settings = settings
        self._make_precise = precise
        self._precise: Decoder | None = None
        self._dtype = vae.inputs["latent_sample"].dtype
        self._latents = runtime.load(graphs.path("latents", self._dtype), small=True)
        self._pixels = runtime.load(graphs.path("pixels", self._dtype), small=True)

    def decode(self, denoising: Denoising, state: Buffer | None = None) -> NDArray[np.uint8]:
        """Pictures of a batch whose last step is queued: [B, H, W, 3] uint8 RGB.

        state: [B, SLOTS, C, h, w] float32, latents in slot 0; None: the one the batch is in.
        Raises ComputeError naming the graph, and its evaluation, that NaN or Inf came out of: never a black
        picture.
        """
        device, factor = self._device, self._settings.scale_factor
        state = denoising.state if state is None else state
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
        made: NDArray[np.uint8] = device.download(pixels)
        spoilt = ~(device.download(latents_finite) & device.download(image_finite))
        if spoilt.any():
            denoising.check()
            # these alone: a picture does not depend on its batch
            made[spoilt] = self._decode_precisely(denoising, state, spoilt)[spoilt]
        return made

    def _decode_precisely(
        self, denoising: Denoising, state: Buffer, spoilt: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """As `decode`, in FP32. Raises ComputeError naming the pictures if that cannot be."""
        seeds = ", ".join(str(seed) for seed, bad in zip(denoising.seeds, spoilt, strict=True) if bad)
        failed = f"the vae_decoder graph gave NaN or Inf for the picture with seed {seeds}"
        if self._make_precise is None:
            half = self._dtype == "float16"
            mend = "try a bundle exported with --precision fp32" if half else "export with another --vae"
            raise ComputeError(f"{failed}; {mend}")
        if self._precise is None:
            try:
                self._precise = self._make_precise()
            except EngineError:
                raise ComputeError(
                    f"{failed}, and there is no engine of vae_decoder_fp32; "
                    "make this picture with another backend, such as onnxruntime:cuda"
                ) from None
        return self._precise.decode(denoising, state)

    def close(self) -> None:
        """Free the graphs."""
        for graph in (self._latents, self._vae, self._pixels, self._precise):
            if graph is not None:
                graph.close()
