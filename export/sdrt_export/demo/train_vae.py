"""Stage "vae": the autoencoder, trained on the drawings alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from .data import Dataset
from .drawing import Bytes
from .models import build_vae
from .training import Draws, Log, Schedule, Trainer

SCHEDULE = Schedule(steps=2500, batch=32, learning_rate=2e-3, decay=0.5, averaging=0.995)

# Most pixels are background: without these weights small crosses come back as diamonds.
THING_WEIGHT = 6.0
RIM = 2
KL_WEIGHT = 1e-6
# Noise the decoder must forgive, relative to the latents' spread, because a U-Net's latents are never exact.
LATENT_NOISE = 0.12


def to_tensor(pictures: Bytes) -> Tensor:
    """[B, H, W, 3] uint8 to [B, 3, H, W] float32 in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(images: Tensor) -> Bytes:
    """[B, 3, H, W] float in -1..1 to [B, H, W, 3] uint8."""
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    pictures: Bytes = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return pictures


def pixel_weights(images: Tensor) -> Tensor:
    """[B, 3, H, W] drawings to [B, 1, H, W]: things and a rim around them count more than background."""
    background = images[:, :, :1, :1]
    thing = ((images - background).abs().amax(dim=1, keepdim=True) > 0.03).float()
    near = nn.functional.max_pool2d(thing, 2 * RIM + 1, stride=1, padding=RIM)
    weights: Tensor = 1 + (THING_WEIGHT - 1) * near
    return weights


def vae_loss(vae: AutoencoderKL, images: Tensor, draws: Draws) -> Tensor:
    """L1 and squared error of drawings [B, 3, 64, 64], decoded from noisy latents, and a whiff of KL."""
    with torch.autocast(images.device.type, torch.bfloat16):
        posterior = vae.encode(images).latent_dist
        # Drawn on the host, so that a seed means the same on every device.
        mean = posterior.mean.float()
        noise = torch.randn(mean.shape, generator=draws.torch).to(images.device)
        level = LATENT_NOISE * torch.rand((len(images), 1, 1, 1), generator=draws.torch).to(images.device)
        spread = level * mean.detach().std() + posterior.std.float()
        decoded = vae.decode(mean + spread * noise).sample
    difference = decoded.float() - images
    error = (difference.abs() + difference**2) * pixel_weights(images)
    loss: Tensor = error.mean() + KL_WEIGHT * posterior.kl().float().mean()
    return loss


def train_vae(data: Dataset, folder: Path, device: str, seed: int, steps: int | None, log: Log) -> None:
    """Train, then save the averaged autoencoder with its scaling factor into `folder`."""
    torch.manual_seed(seed)
    vae = build_vae().to(device)
    with torch.no_grad():  # log variance -6 at the start: the posterior is narrow from the first step
        vae.quant_conv.bias[4:] = -6.0
        vae.quant_conv.weight[4:] *= 0.1
    schedule = SCHEDULE.with_steps(steps)
    trainer = Trainer(vae, schedule, folder / "vae.state", seed, log)

    def batch_loss(draws: Draws) -> Tensor:
        rows = data.sample(schedule.batch, 0.5, draws.numpy)
        return vae_loss(vae, to_tensor(data.pictures[rows]).to(device), draws)

    trainer.run(batch_loss, every=250)
    trainer.use_averaged()
    rows = data.sample(2048, 0.5, np.random.default_rng(seed))
    latents = encode(vae, data.pictures[rows])
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))
    vae.save_pretrained(folder / "vae")
    error = (to_tensor(decode(vae, latents)) - to_tensor(data.pictures[rows])).square().mean(dim=(1, 2, 3))
    psnr = float((10 * torch.log10(4 / error)).mean())
    log(f"PSNR {psnr:.1f} dB, scaling factor {vae.config.scaling_factor}")


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: Bytes, batch: int = 256) -> Tensor:
    """[N, 64, 64, 3] uint8 to unscaled posterior means [N, 4, 8, 8] float32, on the host."""
    parts = [
        vae.encode(to_tensor(pictures[start : start + batch]).to(vae.device)).latent_dist.mean.cpu()
        for start in range(0, len(pictures), batch)
    ]
    return torch.cat(parts)


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor, batch: int = 256) -> Bytes:
    """Unscaled latents [N, 4, 8, 8] to pictures [N, 64, 64, 3] uint8."""
    return np.concatenate(
        [to_pictures(vae.decode(part.to(vae.device)).sample) for part in torch.split(latents, batch)]
    )
