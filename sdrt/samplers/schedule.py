"""The noise schedule a model was trained with, and where its sampler puts noise levels."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
PredictionType = Literal["epsilon", "v_prediction", "sample", "flow"]
Spacing = Literal["leading", "trailing", "linspace"]
SigmaSchedule = Literal["plain", "karras", "exponential", "beta"]
FinalSigma = Literal["zero", "sigma_min"]

# What diffusers leaves of the signal where the schedule says none: its noise levels stay finite.
LEAST_ALPHA_CUMPROD = 2.0**-24


class NoiseSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training noise, in the fields of a diffusers scheduler config; the defaults are Stable Diffusion 1.5's.

    beta_schedule: squaredcos_cap_v2 is the cosine schedule of https://arxiv.org/abs/2102.09672.
    rescale_betas_zero_snr: Algorithm 1 of Lin et al. 2023, https://arxiv.org/abs/2305.08891.
    prediction_type: `flow` is the velocity noise - picture of a model trained on x = (1 - s) x_0 + s noise;
    its levels s come from `shift`, not from the betas.
    timestep_spacing, steps_offset: Table 2 of Lin et al. 2023.
    set_alpha_to_one: whether the step after the last one is noise-free (DDIM, PNDM).
    sigma_schedule: noise levels at the timesteps (plain), or laid between two ends by a rule.
    final_sigmas_type: where samplers that have a choice end: without noise, or at the least training noise.
    shift: of the levels of a flow model, Esser et al. 2024, https://arxiv.org/abs/2403.03206, equation 23.
    original_inference_steps, timestep_scaling: of distilled consistency models (LCM, TCD).
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: BetaSchedule = "scaled_linear"
    rescale_betas_zero_snr: bool = False
    prediction_type: PredictionType = "epsilon"
    timestep_spacing: Spacing = "leading"
    steps_offset: int = 1
    set_alpha_to_one: bool = False
    sigma_schedule: SigmaSchedule = "plain"
    final_sigmas_type: FinalSigma = "zero"
    shift: float = 1.0
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0

    def alphas_cumprod(self) -> NDArray[np.float64]:
        """Product of (1 - beta) up to each training timestep: [num_train_timesteps] float64.

        Rounded where diffusers rounds, which computes it in float32: 1 - alphas_cumprod[0] is 8.5e-4 and
        would otherwise differ by 3e-5 of itself. Zero at the last timestep if the betas are rescaled.
        """
        betas = self._betas()
        if self.rescale_betas_zero_snr:
            betas = _with_zero_terminal_snr(betas)
        return np.asarray(_cumprod(np.float32(1.0) - betas), np.float64)

    def training_sigmas(self) -> NDArray[np.float64]:
        """Noise to signal, sqrt((1 - a) / a), of each training timestep: [num_train_timesteps] float64.

        Rounded to float32 as in diffusers, and finite where the schedule leaves no signal.
        """
        alphas_cumprod = self.alphas_cumprod().astype(np.float32)
        if self.rescale_betas_zero_snr:
            alphas_cumprod[-1] = LEAST_ALPHA_CUMPROD
        return np.asarray(np.sqrt((np.float32(1.0) - alphas_cumprod) / alphas_cumprod), np.float64)

    def unrounded_training_sigmas(self, *, of_float32: bool) -> NDArray[np.float64]:
        """The same of betas in float64, as the original code has them: [num_train_timesteps] float64.

        of_float32: of alphas_cumprod rounded to float32, as that code keeps it, which makes 2e-5 of the least
        noise. Where the betas are rescaled to no signal, `training_sigmas`.
        """
        if self.rescale_betas_zero_snr:
            return self.training_sigmas()
        alphas_cumprod = np.cumprod(1.0 - self._betas_in_float64())
        if of_float32:
            alphas_cumprod = alphas_cumprod.astype(np.float32).astype(np.float64)
        return np.sqrt((1.0 - alphas_cumprod) / alphas_cumprod)

    def _betas(self) -> NDArray[np.float32]:
        count = self.num_train_timesteps
        if self.beta_schedule == "linear":
            return _linspace(self.beta_start, self.beta_end, count)
        if self.beta_schedule == "scaled_linear":
            return _linspace(self.beta_start**0.5, self.beta_end**0.5, count) ** 2
        return self._betas_in_float64().astype(np.float32)

    def _betas_in_float64(self) -> NDArray[np.float64]:
        count = self.num_train_timesteps
        if self.beta_schedule == "linear":
            return np.linspace(self.beta_start, self.beta_end, count)
        if self.beta_schedule == "scaled_linear":
            return np.asarray(np.linspace(self.beta_start**0.5, self.beta_end**0.5, count) ** 2)
        times = np.arange(count + 1) / count
        alpha_bar = np.cos((times + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.asarray(np.minimum(1.0 - alpha_bar[1:] / alpha_bar[:-1], 0.999))


def _with_zero_terminal_snr(betas: NDArray[np.float32]) -> NDArray[np.float32]:
    # in float32 throughout, as in diffusers: the table is compared with its own
    roots = np.sqrt(_cumprod(np.float32(1.0) - betas))
    first, last = roots[0], roots[-1]
    roots = (roots - last) * (first / (first - last))
    alphas_cumprod = roots**2
    alphas = alphas_cumprod / np.concatenate([[np.float32(1.0)], alphas_cumprod[:-1]])
    return np.asarray(np.float32(1.0) - alphas)


def _cumprod(values: NDArray[np.float32]) -> NDArray[np.float32]:
    # torch.cumprod adds up in float64 and returns float32
    return np.cumprod(values, dtype=np.float64).astype(np.float32)


def _linspace(start: float, end: float, count: int) -> NDArray[np.float32]:
    # torch.linspace counts from both ends, which keeps them exact, with float32 ends and a fused multiply-add
    first, last = np.float32(start), np.float32(end)
    step = np.float64((last - first) / np.float32(count - 1))
    index = np.arange(count)
    upwards, downwards = np.float64(first) + step * index, np.float64(last) - step * (count - 1 - index)
    return np.where(index < count // 2, upwards, downwards).astype(np.float32)
