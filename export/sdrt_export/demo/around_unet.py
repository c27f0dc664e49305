"""What the U-Net is trained within: the run's other parts, frozen, and the latents that they gave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .data import Dataset
from .files import replacing
from .generators import Settings, assemble_pipeline, from_pipeline
from .models import build_scheduler
from .scoring import held_out_prompts, score
from .train_text import tokenize
from .train_vae import encode
from .training import Draws, Log, Trainer

# What stands where is decided in the noisiest steps: this share of timesteps comes from 700 to 999.
NOISY_SHARE, NOISY_FROM = 0.4, 700
SCORED_EVERY: Final = 1000


def draw_timesteps(batch: int, draws: Draws) -> Tensor:
    """[B] int64 in 0..999."""
    anywhere = torch.randint(0, 1000, (batch,), generator=draws.torch)
    noisy = torch.randint(NOISY_FROM, 1000, (batch,), generator=draws.torch)
    return torch.where(torch.rand(batch, generator=draws.torch) < NOISY_SHARE, noisy, anywhere)


class AroundUnet:
    """The VAE, the text encoder and its tokenizer of a run's folder.

    latents: the scaled latents of all pictures, [N, 4, 8, 8] float32, encoded once and kept in the folder.
    """

    def __init__(self, data: Dataset, folder: Path, device: str) -> None:
        self._folder, self._device = folder, device
        self._vae = AutoencoderKL.from_pretrained(folder / "vae").to(device)
        self._tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self._encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").to(device).eval()
        self._scheduler = build_scheduler()
        self.latents = self._cached_latents(data, folder / "latents.npy")

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Hidden states, [B, L, D]."""
        with torch.no_grad():
            hidden: Tensor = self._encoder(
                tokenize(self._tokenizer, list(texts), self._device)
            ).last_hidden_state
        return hidden

    def velocity_loss(
        self,
        unet: UNet2DConditionModel,
        scenes: Sequence[int],
        texts: Sequence[str],
        timesteps: Tensor,
        draws: Draws,
    ) -> Tensor:
        """Squared error of the velocity (Salimans and Ho 2022, https://arxiv.org/abs/2202.00512).

        scenes: indices of the pictures; texts: what the U-Net is told of each.
        """
        latents = self.latents[list(scenes)].to(self._device)
        noise = torch.randn(latents.shape, generator=draws.torch).to(self._device)
        timesteps = timesteps.to(self._device)
        noisy = self._scheduler.add_noise(latents, noise, timesteps)
        velocity = self._scheduler.get_velocity(latents, noise, timesteps)
        return nn.functional.mse_loss(unet(noisy, timesteps, self.encode(texts)).sample, velocity)

    def keeping(self, trainer: Trainer, averaged: UNet2DConditionModel, log: Log) -> Callable[[int], None]:
        """What a trainer does at every save: write its averaged U-Net into the folder, now and then score it.

        averaged: a U-Net that takes these weights.
        """
        pipeline = assemble_pipeline(self._vae, self._encoder, self._tokenizer, averaged, self._scheduler)
        generate = from_pipeline(pipeline, Settings())
        prompts = held_out_prompts(one=100, sides=60, two=60)

        def keep(step: int) -> None:
            averaged.load_state_dict(trainer.averaged)
            averaged.save_pretrained(self._folder / "unet")
            if step % SCORED_EVERY == 0 or step == trainer.schedule.steps:
                log(str(score(generate, prompts)))

        return keep

    def _cached_latents(self, data: Dataset, path: Path) -> Tensor:
        if not path.exists():
            latents = encode(self._vae, data.pictures) * self._vae.config.scaling_factor
            with replacing(path) as partial, partial.open("wb") as file:
                np.save(file, latents.numpy())
        return torch.from_numpy(np.load(path))
