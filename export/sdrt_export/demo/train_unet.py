"""Stage "unet": the denoiser, on latents encoded once, with the text encoder frozen."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .around_unet import AroundUnet, draw_timesteps
from .captions import caption, empty_caption
from .data import Dataset
from .models import build_unet
from .training import Draws, Log, Schedule, Trainer

SCHEDULE = Schedule(steps=6_500, batch=64, learning_rate=1.2e-3, decay=0.4, warmup=300, averaging=0.999)

# Share of captions replaced by an empty one, for classifier-free guidance.
DROPOUT = 0.1
# Share of scenes of two things, in the first `CURRICULUM` steps and later.
PAIRS_FIRST, PAIRS_LATER, CURRICULUM = 0.2, 0.45, 2_100


def train_unet(data: Dataset, folder: Path, device: str, seed: int, steps: int | None, log: Log) -> None:
    """Train; at every save, write the averaged U-Net into `folder`, and every 1,000 steps score it."""
    around = AroundUnet(data, folder, device)
    torch.manual_seed(seed)
    unet = build_unet().to(device, memory_format=torch.channels_last)
    schedule = SCHEDULE.with_steps(steps)
    trainer = Trainer(unet, schedule, folder / "unet.state", seed, log)

    def loss(draws: Draws) -> Tensor:
        rng = draws.numpy
        pairs = PAIRS_FIRST if draws.step < CURRICULUM else PAIRS_LATER
        rows = data.sample(schedule.batch, pairs, rng)
        texts = [
            empty_caption(rng) if rng.random() < DROPOUT else caption(data.scenes[row], rng) for row in rows
        ]
        return around.velocity_loss(unet, rows.tolist(), texts, draw_timesteps(schedule.batch, draws), draws)

    trainer.run(loss, around.keeping(trainer, build_unet().to(device), log), every=250)
