"""Stage "compose": the trained U-Net learns what AND means, and that a caption need not tell everything.

With the predictions u of an empty caption, and c_1, c_2 of captions that each name one of a scene's two
things, composition (Liu et al. 2022, https://arxiv.org/abs/2206.01714) takes

    u + (c_1 - u) + (c_2 - u)

for the prediction of both. That holds where what the captions say is independent; captions that always tell
of the whole scene exclude each other, and their sum is neither. So this sum is trained to be right, in the
same steps as predictions for whole captions, and for some that leave out a place or one of two things.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .captions import caption, empty_caption, unplaced_caption
from .data import Dataset
from .generators import Settings, assemble_pipeline, from_pipeline
from .models import build_scheduler
from .scenes import Scene
from .scoring import held_out_prompts, score
from .train_text import tokenize
from .train_unet import cached_latents, draw_timesteps
from .training import Draws, Log, Schedule, Trainer

# Of a batch, so many scenes are told in one caption; the others, of two things, in three rows each.
SCHEDULE: Final = Schedule(steps=2_000, batch=52, learning_rate=6e-4, decay=0.4, averaging=0.995)
JOINED: Final = 18
# Share of scenes of two things among those told in one caption.
PAIRS: Final = 0.32
DROPOUT: Final = 0.12
# A thing that is alone off the centre: share of captions that do not say where.
PLACE_UNTOLD: Final = 0.2
# Two things: share of captions that name only one, once the noise is so low that it shows how many there are.
ONE_UNTOLD, SHOWN_BELOW = 0.25, 650
# Captions joined by AND that say where.
JOINED_PLACED: Final = 0.15


def telling(scene: Scene, timestep: int, rng: np.random.Generator) -> str:
    """One caption of a scene: whole, empty, or with something left out."""
    if rng.random() < DROPOUT:
        return empty_caption(rng)
    if len(scene.things) == 2 and timestep < SHOWN_BELOW and rng.random() < ONE_UNTOLD:
        return unplaced_caption(scene.of(int(rng.integers(2))), rng)
    if len(scene.things) == 1 and scene.things[0].position != "centre" and rng.random() < PLACE_UNTOLD:
        return unplaced_caption(scene, rng)
    return caption(scene, rng)


def joined_captions(scene: Scene, rng: np.random.Generator) -> tuple[str, str, str]:
    """An empty caption, and one for each of two things."""
    tell = caption if rng.random() < JOINED_PLACED else unplaced_caption
    nothing = empty_caption(rng) if rng.random() < 0.3 else ""
    return nothing, tell(scene.of(0), rng), tell(scene.of(1), rng)


def train_compose(data: Dataset, folder: Path, device: str, seed: int, steps: int | None, log: Log) -> None:
    """Go on with the U-Net in `folder`; every save replaces it by the averaged one."""
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(device)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").to(device).eval()
    latents = cached_latents(data, vae, folder / "latents.npy")
    scheduler = build_scheduler()
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").to(device, memory_format=torch.channels_last)
    averaged = UNet2DConditionModel.from_pretrained(folder / "unet").to(device)
    schedule = SCHEDULE.with_steps(steps)
    trainer = Trainer(unet, schedule, folder / "compose.state", seed, log)
    generate = from_pipeline(assemble_pipeline(vae, encoder, tokenizer, averaged, scheduler), Settings())
    prompts = held_out_prompts(one=100, sides=60, two=60)
    told = schedule.batch - JOINED
    # rows of the network: the scenes of one caption, then three times those that are joined
    source = torch.cat([torch.arange(schedule.batch), *[torch.arange(told, schedule.batch)] * 2]).to(device)

    def loss(draws: Draws) -> Tensor:
        rng = draws.numpy
        chosen = np.concatenate([data.sample(told, PAIRS, rng), data.sample(JOINED, 1.0, rng)])
        clean = latents[chosen].to(device)
        noise = torch.randn(clean.shape, generator=draws.torch).to(device)
        timesteps = draw_timesteps(schedule.batch, draws).to(device)
        scenes = [data.scenes[index] for index in chosen]
        texts = [
            telling(scene, timestep, rng)
            for scene, timestep in zip(scenes[:told], timesteps.tolist(), strict=False)
        ]
        for column in zip(*(joined_captions(scene, rng) for scene in scenes[told:]), strict=True):
            texts += column
        with torch.no_grad():
            hidden = encoder(tokenize(tokenizer, texts, device)).last_hidden_state
        noisy = scheduler.add_noise(clean, noise, timesteps)
        predicted = unet(noisy[source], timesteps[source], hidden).sample
        alone, nothing, first, second = predicted.split([told, JOINED, JOINED, JOINED])
        velocity = scheduler.get_velocity(clean, noise, timesteps)
        whole = nn.functional.mse_loss(alone, velocity[:told])
        return whole + nn.functional.mse_loss(first + second - nothing, velocity[told:])

    def save(step: int) -> None:
        averaged.load_state_dict(trainer.averaged)
        averaged.save_pretrained(folder / "unet")
        if step % 1000 == 0 or step == schedule.steps:
            log(str(score(generate, prompts)))

    trainer.run(loss, save, every=250)
