"""Guided runs of the default sampler, held to the scenes they should end in, on the states they come by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor

from .models import build_scheduler
from .training import Draws

GUIDANCE, SAMPLER_STEPS = 2.0, 15
# So many of the sampler's steps, the last ones too, are held to the scene; the others only lead on.
HELD: Final = 6
# Where a run begins that is given a picture: strengths from 0.8 down to 0.54.
BEGINS: Final = (3, 8)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A picture to be made.

    scene: index of what it should show. captions: one, or two that AND joins.
    source: index of the picture that it begins with, noised, at step `begin`; None to begin with noise.
    """

    scene: int
    captions: Sequence[str]
    source: int | None = None
    begin: int = 0

    @property
    def rows(self) -> list[str]:
        """Captions of all its rows, the empty one first."""
        return ["", *self.captions]

    @property
    def weights(self) -> list[float]:
        """Of these rows; they add up to 1."""
        return [1.0 - GUIDANCE * len(self.captions), *[GUIDANCE] * len(self.captions)]


class GuidedRuns:
    """Runs the sampler as a user does, and measures where it leads."""

    def __init__(self, unet: UNet2DConditionModel, latents: Tensor, device: str) -> None:
        """latents: [N, 4, 8, 8] of all scenes."""
        self._unet, self._latents, self._device = unet, latents, device
        self._scheduler = build_scheduler()
        self._alphas_cumprod = self._scheduler.alphas_cumprod.to(device)

    def loss(self, runs: Sequence[Run], hidden: Tensor, draws: Draws) -> Tensor:
        """Mean squared error of the guided velocity at HELD steps, over the runs that have begun by then.

        hidden: [R, L, D], what the text encoder says of all rows, one run after another.
        """
        owners = self._tensor([b for b, run in enumerate(runs) for _ in run.rows])
        weights = _as_column(self._tensor([weight for run in runs for weight in run.weights]))
        begins = self._tensor([run.begin for run in runs])
        clean = self._latents[[run.scene for run in runs]].to(self._device)
        source = self._latents[[run.scene if run.source is None else run.source for run in runs]].to(
            self._device
        )
        sampler = DPMSolverMultistepScheduler.from_config(self._scheduler.config)
        sampler.set_timesteps(SAMPLER_STEPS, device=self._device)
        held = set(draws.numpy.choice(SAMPLER_STEPS, HELD, replace=False).tolist())
        latents = torch.randn(clean.shape, generator=draws.torch).to(self._device)
        signal, noise = self._levels(sampler.timesteps[0])
        latents = torch.where(_as_column(begins > 0), signal * source + noise * latents, latents)
        errors = []
        for k, timestep in enumerate(sampler.timesteps[: max(held) + 1]):
            signal, noise = self._levels(timestep)
            begun = begins <= k
            live = begun[owners]
            with torch.set_grad_enabled(k in held):
                rows = self._unet(latents[owners[live]], timestep, hidden[live]).sample
                guided = torch.zeros_like(latents).index_add(0, owners[live], rows * weights[live])
            if k in held:
                error = guided - (signal * latents - clean) / noise
                errors.append(error[begun].square().flatten(1).mean(1))
            # until it begins, the given picture itself is what leads a run, so that its noise only grows less
            guided = torch.where(_as_column(begun), guided.detach(), (signal * latents - source) / noise)
            latents = sampler.step(guided, timestep, latents).prev_sample
        return torch.cat(errors).mean()

    def _levels(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        share = self._alphas_cumprod[timestep]
        return share.sqrt(), (1 - share).sqrt()

    def _tensor(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self._device)


def _as_column(values: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1]"""
    return values[:, None, None, None]
