"""Pictures as ComfyUI and AUTOMATIC1111 make them, over PyTorch modules: their formulas, written down here.

Nothing of sdrt's samplers is used. Both keep x = x_0 + sigma * noise; what they share is k-diffusion's.
"""

from __future__ import annotations

from itertools import pairwise
from math import expm1, log

import numpy as np
import torch
from scipy import integrate


class Model:
    """A pipeline of diffusers as k-diffusion's denoiser, with guidance.

    whole_timesteps: the network is told the nearest timestep, as ComfyUI does; else a fractional one.
    """

    def __init__(self, pipeline, prompt, negative, guidance, *, whole_timesteps):
        self.pipeline, self.guidance, self.whole = pipeline, guidance, whole_timesteps
        config = pipeline.scheduler.config
        betas = torch.linspace(config.beta_start**0.5, config.beta_end**0.5, 1000, dtype=torch.float64) ** 2
        kept = torch.cumprod(1 - betas, 0)
        if not whole_timesteps:
            kept = kept.float().double()
        self.sigmas = ((1 - kept) / kept).sqrt()
        self.log_sigmas = self.sigmas.log()
        self.predicts_v = config.prediction_type == "v_prediction"
        self.states = torch.cat([self._encode(negative), self._encode(prompt)])

    def _encode(self, text):
        tokens = self.pipeline.tokenizer(text, padding="max_length", max_length=77, return_tensors="pt")
        return self.pipeline.text_encoder(tokens.input_ids)[0]

    def timestep(self, sigma):
        distance = log(sigma) - self.log_sigmas
        if self.whole:
            return float(distance.abs().argmin())
        return float(np.interp(log(sigma), self.log_sigmas.numpy(), np.arange(1000)))

    def __call__(self, x, sigma):
        """x_0."""
        sigma = float(sigma)
        given = (x / (sigma**2 + 1) ** 0.5).float()
        told = torch.full((2,), self.timestep(sigma))
        out = self.pipeline.unet(torch.cat([given] * 2), told, self.states).sample.double()
        m = out[:1] + self.guidance * (out[1:] - out[:1])
        if self.predicts_v:
            return x / (sigma**2 + 1) - m * sigma / (sigma**2 + 1) ** 0.5
        return x - sigma * m


def euler(model, x, sigmas):
    for sigma, after in pairwise(sigmas):
        x = x + (x - model(x, sigma)) / sigma * (after - sigma)
    return x


def heun(model, x, sigmas):
    for sigma, after in pairwise(sigmas):
        d = (x - model(x, sigma)) / sigma
        if after == 0:
            x = x + d * (after - sigma)
        else:
            there = x + d * (after - sigma)
            x = x + (d + (there - model(there, after)) / after) / 2 * (after - sigma)
    return x


def dpm_2(model, x, sigmas):
    for sigma, after in pairwise(sigmas):
        d = (x - model(x, sigma)) / sigma
        if after == 0:
            x = x + d * (after - sigma)
        else:
            middle = (sigma * after) ** 0.5
            there = x + d * (middle - sigma)
            x = x + (there - model(there, middle)) / middle * (after - sigma)
    return x


def lms(model, x, sigmas):
    slopes = []
    for i in range(len(sigmas) - 1):
        slopes = [(x - model(x, sigmas[i])) / sigmas[i], *slopes][:4]

        known = sigmas[i - len(slopes) + 1 : i + 1][::-1]
        for j, slope in enumerate(slopes):
            weight, _ = integrate.quad(_basis, sigmas[i], sigmas[i + 1], args=(known, j), epsrel=1e-8)
            x = x + weight * slope
    return x


def _basis(tau, known, j):
    return np.prod([(tau - other) / (known[j] - other) for k, other in enumerate(known) if k != j])


def dpmpp_2m(model, x, sigmas):
    before = None
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i])
        if sigmas[i + 1] == 0:
            return denoised
        h = log(sigmas[i] / sigmas[i + 1])
        d = denoised
        if before is not None:
            r = log(sigmas[i - 1] / sigmas[i]) / h
            d = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * before
        x = sigmas[i + 1] / sigmas[i] * x - expm1(-h) * d
        before = denoised
    return x


def dpmpp_2s(model, x, sigmas):
    """DPM++ 2S a and DPM++ SDE without their noise."""
    for sigma, after in pairwise(sigmas):
        denoised = model(x, sigma)
        if after == 0:
            return denoised
        middle = (sigma * after) ** 0.5
        there = middle / sigma * x + (1 - middle / sigma) * denoised
        x = after / sigma * x + (1 - after / sigma) * model(there, middle)
    return x


def dpmpp_2m_heun(model, x, sigmas):
    """DPM++ 2M SDE Heun without its noise."""
    denoised, h = None, None
    for sigma, after in pairwise(sigmas):
        before, h_before, denoised = denoised, h, model(x, sigma)
        if after == 0:
            return denoised
        h = log(sigma / after)
        x = after / sigma * x - expm1(-h) * denoised
        if before is not None:
            x = x + (1 + expm1(-h) / h) * (denoised - before) * h / h_before
    return x


def dpmpp_3m(model, x, sigmas):
    """DPM++ 3M SDE without its noise."""
    outs, lengths = [], []
    for sigma, after in pairwise(sigmas):
        outs = [model(x, sigma), *outs][:3]
        if after == 0:
            return outs[0]
        h = log(sigma / after)
        x = after / sigma * x - expm1(-h) * outs[0]
        phi_2 = expm1(-h) / h + 1
        if len(outs) == 3:
            r_0, r_1 = lengths[0] / h, lengths[1] / h
            near, far = (outs[0] - outs[1]) / r_0, (outs[1] - outs[2]) / r_1
            slope = near + (near - far) * r_0 / (r_0 + r_1)
            x = x + phi_2 * slope - (phi_2 / h - 0.5) * (near - far) / (r_0 + r_1)
        elif len(outs) == 2:
            x = x + phi_2 * (outs[0] - outs[1]) * h / lengths[0]
        lengths = [h, *lengths][:2]
    return x


def uni_pc(variant):
    """UniPC on the data prediction, as its authors' code runs it; in x / alpha, which k-diffusion keeps."""

    def sample(model, x, sigmas):
        levels = [*sigmas[:-1], sigmas[-1] or 0.001]
        order = min(3, len(levels) - 2)
        outs, at = [model(x, levels[0])], [levels[0]]
        for step in range(1, len(levels)):
            takes = min(order, step, len(levels) - step)
            corrects = step < len(levels) - 1
            x, out = _update(model, x, outs, at, levels[step], takes, corrects, variant)
            if corrects:
                outs, at = [*outs, out][-order:], [*at, levels[step]][-order:]
        return x

    return sample


def _update(model, x, outs, at, to, order, corrects, variant):
    """From the last of `at` to `to`: x' = sigma'/sigma x - (e^-h - 1) D, alpha being 1."""
    here, m_0 = at[-1], outs[-1]
    h = log(here / to)
    ratios = [(log(here / at[-(k + 1)])) / h for k in range(1, order)]
    slopes = [(outs[-(k + 1)] - m_0) / ratios[k - 1] for k in range(1, order)]
    ratios.append(1.0)
    hh = -h
    b_h = hh if variant == "bh1" else expm1(hh)
    rows, right, phi, factorial = [], [], expm1(hh) / hh - 1, 1
    for power in range(1, order + 1):
        rows.append([r ** (power - 1) for r in ratios])
        right.append(phi * factorial / b_h)
        factorial *= power + 1
        phi = phi / hh - 1 / factorial
    predicted = to / here * x - expm1(hh) * m_0
    moved = predicted
    if slopes:
        weights = [0.5] if order == 2 else np.linalg.solve(np.array(rows)[:-1, :-1], right[:-1])
        moved = predicted - b_h * sum(w * s for w, s in zip(weights, slopes, strict=True))
    if not corrects:
        return moved, None
    out = model(moved, to)
    weights = [0.5] if order == 1 else np.linalg.solve(np.array(rows), right)
    corrected = sum((w * s for w, s in zip(weights, slopes, strict=False)), torch.zeros_like(x))
    return predicted - b_h * (corrected + weights[-1] * (out - m_0)), out


SAMPLERS = {
    "euler": euler,
    "heun": heun,
    "dpm_2": dpm_2,
    "lms": lms,
    "dpmpp_2m": dpmpp_2m,
    "uni_pc": uni_pc("bh1"),
    "uni_pc_bh2": uni_pc("bh2"),
}
WITHOUT_NOISE = {"dpmpp_2s": dpmpp_2s, "dpmpp_2m_heun": dpmpp_2m_heun, "dpmpp_3m": dpmpp_3m}


def picture(pipeline, latents):
    """[H, W, 3] uint8."""
    decoded = pipeline.vae.decode(latents.float() / pipeline.vae.config.scaling_factor).sample[0]
    return (decoded.clamp(-1, 1) / 2 + 0.5).mul(255).round().byte().permute(1, 2, 0).numpy()
