"""The noise schedule a model was trained with."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

PredictionType = Literal["epsilon", "v_prediction", "sample"]
Spacing = Literal["leading", "trailing", "linspace"]


class NoiseSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training noise, in the fields of a diffusers scheduler config; the defaults are Stable Diffusion 1.5's.

    timestep_spacing, steps_offset: Table 2 of Lin et al. 2023, https://arxiv.org/abs/2305.08891.
    set_alpha_to_one: whether the step after the last one is noise-free (DDIM, PNDM).
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: Literal["linear", "scaled_linear"] = "scaled_linear"
    prediction_type: PredictionType = "epsilon"
    timestep_spacing: Spacing = "leading"
    steps_offset: int = 1
    set_alpha_to_one: bool = False

    def alphas_cumprod(self) -> NDArray[np.float64]:
        """Product of (1 - beta) up to each training timestep: [num_train_timesteps] float64.

        Rounded where diffusers rounds, which computes it in float32: 1 - alphas_cumprod[0] is 8.5e-4 and
        would otherwise differ by 3e-5 of itself.
        """
        if self.beta_schedule == "linear":
            betas = _linspace(self.beta_start, self.beta_end, self.num_train_timesteps)
        else:
            betas = _linspace(self.beta_start**0.5, self.beta_end**0.5, self.num_train_timesteps) ** 2
        products = np.cumprod(np.float32(1.0) - betas, dtype=np.float64)
        return products.astype(np.float32).astype(np.float64)

    def sigmas(self) -> NDArray[np.float64]:
        """Noise to signal, sqrt((1 - a) / a), of each training timestep: [num_train_timesteps] float64."""
        alphas_cumprod = self.alphas_cumprod()
        return np.sqrt((1.0 - alphas_cumprod) / alphas_cumprod)


def _linspace(start: float, end: float, count: int) -> NDArray[np.float32]:
    # torch.linspace counts from both ends in float32, which keeps the ends exact
    first, last = np.float32(start), np.float32(end)
    step = (last - first) / np.float32(count - 1)
    index = np.arange(count, dtype=np.float32)
    return np.where(index < count // 2, first + step * index, last - step * (np.float32(count - 1) - index))
