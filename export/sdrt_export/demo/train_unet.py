"""Stage "unet": the denoiser, on latents encoded once, with the text encoder frozen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .captions import caption, empty_caption
from .data import Dataset
from .files import replacing
from .generators import Settings, assemble_pipeline, from_pipeline
from .models import build_scheduler, build_unet
from .scoring import held_out_prompts, score
from .train_text import tokenize
from .train_vae import encode
from .training import Draws, Log, Schedule, Trainer

SCHEDULE = Schedule(steps=6_500, batch=64, learning_rate=1.2e-3, decay=0.4, warmup=300, averaging=0.999)

# Share of captions replaced by an empty one, for classifier-free guidance.
DROPOUT = 0.1
# Share of scenes of two things, in the first `CURRICULUM` steps and later.
PAIRS_FIRST, PAIRS_LATER, CURRICULUM = 0.2, 0.45, 2_100
# What stands where is decided in the noisiest steps: this share of timesteps comes from 700 to 999.
NOISY_SHARE, NOISY_FROM = 0.4, 700


def cached_latents(data: Dataset, vae: AutoencoderKL, path: Path) -> Tensor:
    """The scaled latents of all pictures, [N, 4, 8, 8] float32, encoded at the first call."""
    if not path.exists():
        latents = encode(vae, data.pictures) * vae.config.scaling_factor
        with replacing(path) as partial, partial.open("wb") as file:
            np.save(file, latents.numpy())
    return torch.from_numpy(np.load(path))


def draw_timesteps(batch: int, draws: Draws) -> Tensor:
    """[B] int64 in 0..999."""
    anywhere = torch.randint(0, 1000, (batch,), generator=draws.torch)
    noisy = torch.randint(NOISY_FROM, 1000, (batch,), generator=draws.torch)
    return torch.where(torch.rand(batch, generator=draws.torch) < NOISY_SHARE, noisy, anywhere)


def velocity_loss(
    unet: UNet2DConditionModel, scheduler: DDIMScheduler, latents: Tensor, hidden: Tensor, draws: Draws
) -> Tensor:
    """Squared error of the velocity (Salimans and Ho 2022, https://arxiv.org/abs/2202.00512)."""
    noise = torch.randn(latents.shape, generator=draws.torch).to(latents.device)
    timesteps = draw_timesteps(len(latents), draws).to(latents.device)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    velocity = scheduler.get_velocity(latents, noise, timesteps)
    prediction = unet(noisy, timesteps, hidden).sample
    return nn.functional.mse_loss(prediction, velocity)


def train_unet(data: Dataset, folder: Path, device: str, seed: int, steps: int | None, log: Log) -> None:
    """Train; at every save, write the averaged U-Net into `folder`, and every 1,000 steps score it."""
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(device)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").to(device).eval()
    latents = cached_latents(data, vae, folder / "latents.npy")
    scheduler = build_scheduler()
    torch.manual_seed(seed)
    unet = build_unet().to(device, memory_format=torch.channels_last)
    schedule = SCHEDULE.with_steps(steps)
    trainer = Trainer(unet, schedule, folder / "unet.state", seed, log)
    averaged = build_unet().to(device)
    generate = from_pipeline(assemble_pipeline(vae, encoder, tokenizer, averaged, scheduler), Settings())
    prompts = held_out_prompts(one=100, sides=60, two=60)

    def loss(draws: Draws) -> Tensor:
        rng = draws.numpy
        pairs = PAIRS_FIRST if draws.step < CURRICULUM else PAIRS_LATER
        rows = data.sample(schedule.batch, pairs, rng)
        texts = [
            empty_caption(rng) if rng.random() < DROPOUT else caption(data.scenes[row], rng) for row in rows
        ]
        with torch.no_grad():
            hidden = encoder(tokenize(tokenizer, texts, device)).last_hidden_state
        return velocity_loss(unet, scheduler, latents[rows].to(device), hidden, draws)

    def save(step: int) -> None:
        averaged.load_state_dict(trainer.averaged)
        averaged.save_pretrained(folder / "unet")
        if step % 1000 == 0 or step == schedule.steps:
            log(str(score(generate, prompts)))

    trainer.run(loss, save, every=250)
