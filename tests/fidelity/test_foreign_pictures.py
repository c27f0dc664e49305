"""Pictures that ComfyUI's graphs and AUTOMATIC1111's texts describe, against those programs' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import test_schedules as levels
import torch
from foreign_pictures import graph
from foreign_pictures import picture as png
from k_diffusion_reference import SAMPLERS, WITHOUT_NOISE, Model, picture
from reference import open_pipeline, psnr

from sdrt.metadata import read_settings
from sdrt.pipeline import Pipeline
from sdrt_export.sources import DEMO_FOLDER

PROMPT, NEGATIVE, SEED, GUIDANCE = "a large red circle on a blue background", "small", 8566257, 3.0
STEPS = 7
COMFYUI = ("normal", "karras", "exponential", "sgm_uniform", "simple", "ddim_uniform", "beta",
           "linear_quadratic", "kl_optimal")  # fmt: skip
SKIPPING = ("dpm_2", "uni_pc", "uni_pc_bh2")
AUTOMATIC1111 = {
    "Uniform": "normal", "Karras": "karras", "Exponential": "exponential", "Polyexponential": "exponential",
    "SGM Uniform": "sgm_uniform", "KL Optimal": "kl_optimal", "Align Your Steps": "align_your_steps",
    "Simple": "simple", "Normal": "normal", "DDIM": "ddim_uniform", "Beta": "beta",
}  # fmt: skip
TITLES = {"Euler": "euler", "Heun": "heun", "DPM2": "dpm_2", "LMS": "lms", "DPM++ 2M": "dpmpp_2m"}
# samplers that draw noise, told to draw none: their text says Eta: 0
QUIET = {"DPM++ 2S a": "dpmpp_2s", "DPM++ 2M SDE Heun": "dpmpp_2m_heun", "DPM++ 3M SDE": "dpmpp_3m"}
# each sampler and each schedule is in one picture that is quick enough for every run
QUICK = [*zip((*SAMPLERS, "ddim", "euler"), COMFYUI, strict=True)]
QUICK_TEXTS = [*zip((*TITLES, *TITLES, "Euler"), AUTOMATIC1111, strict=True)]
QUICK_TEXTS += [(title, "Karras") for title in QUIET]


def cases(samplers, schedules, quick):
    for sampler in samplers:
        for schedule in schedules:
            marks = () if (sampler, schedule) in quick else (pytest.mark.slow,)
            yield pytest.param(sampler, schedule, marks=marks, id=f"{sampler}-{schedule}")


@pytest.fixture(scope="module")
def reference():
    return open_pipeline(DEMO_FOLDER)


@pytest.fixture(scope="module")
def ours():
    with Pipeline.load() as pipeline:
        yield pipeline


def made(ours, file):
    found = read_settings(file)
    assert not found.wanted
    return ours.generate(**found.settings)[0].pixels


@torch.inference_mode()
def expected(pipeline, model, sampler, sigmas, *, scale):
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(SEED)).double()
    run = (SAMPLERS | WITHOUT_NOISE)[sampler]
    return picture(pipeline, run(model, noise * scale, [float(one) for one in sigmas]))


def laid(name, steps):
    sigmas = levels.THEIRS[name](levels.trained_of(name), steps).double().numpy().astype(np.float32)
    end = [levels.AUTOMATIC.least] if name == "kl_optimal" else [0.0]
    return [*map(float, sigmas), *end]


@pytest.mark.parametrize(("sampler", "scheduler"), cases((*SAMPLERS, "ddim"), COMFYUI, QUICK))
def test_comfyui(reference, ours, tmp_path, sampler, scheduler):
    changes = {"n5_width": 64, "n5_height": 64, "n3_steps": STEPS, "n3_cfg": GUIDANCE,
               "n3_sampler_name": sampler, "n3_scheduler": scheduler,
               "n6_text": PROMPT, "n7_text": NEGATIVE}  # fmt: skip
    file = png(tmp_path / "x.png", prompt=graph(**changes))
    sigmas = laid(f"comfyui:{scheduler}", STEPS + (sampler in SKIPPING))
    if sampler in SKIPPING:
        del sigmas[-2]
    with torch.inference_mode():
        model = Model(reference, PROMPT, NEGATIVE, GUIDANCE, whole_timesteps=True)
    full = sigmas[0] > levels.COMFYUI.most * (1 - 1e-5)
    scale = (sigmas[0] ** 2 + 1) ** 0.5 if full else sigmas[0]
    theirs = expected(reference, model, "euler" if sampler == "ddim" else sampler, sigmas, scale=scale)
    assert psnr(made(ours, file), theirs) >= 50


@pytest.mark.parametrize(("title", "schedule"), cases(TITLES | QUIET, AUTOMATIC1111, QUICK_TEXTS))
def test_automatic1111(reference, ours, tmp_path, title, schedule):
    text = (
        f"{PROMPT}\nNegative prompt: {NEGATIVE}\nSteps: {STEPS}, Sampler: {title}, "
        f"Schedule type: {schedule}, CFG scale: {GUIDANCE}, Seed: {SEED}, Size: 64x64, RNG: CPU, "
        f"{'Eta: 0, ' if title in QUIET else ''}Version: v1.10.1"
    )
    file = png(tmp_path / "x.png", parameters=text)
    sigmas = laid(AUTOMATIC1111[schedule], STEPS + (title == "DPM2"))
    if title == "DPM2":
        del sigmas[-2]
    with torch.inference_mode():
        model = Model(reference, PROMPT, NEGATIVE, GUIDANCE, whole_timesteps=False)
    assert (
        psnr(made(ours, file), expected(reference, model, (TITLES | QUIET)[title], sigmas, scale=sigmas[0]))
        >= 50
    )


def test_unipc_of_automatic1111(reference, ours, tmp_path):
    """Its authors' own code: even timesteps down to the least noise, log(alpha) linear between whole ones.

    It is told to take as many steps as range(0, 1000, 1000 // 7) has timesteps: 8.
    """
    text = (
        f"{PROMPT}\nNegative prompt: {NEGATIVE}\nSteps: {STEPS}, Sampler: UniPC, CFG scale: {GUIDANCE}, "
        f"Seed: {SEED}, Size: 64x64, RNG: CPU, Version: v1.10.1"
    )
    with torch.inference_mode():
        model = Model(reference, PROMPT, NEGATIVE, GUIDANCE, whole_timesteps=False)
    log_alphas = -0.5 * np.log1p(model.sigmas.numpy() ** 2)
    between = np.interp(np.linspace(999, 0, 8 + 1), np.arange(1000), log_alphas)
    sigmas = np.sqrt(np.expm1(-2 * between))
    with torch.inference_mode():
        noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(SEED)).double()
        start = noise * (1 + sigmas[0] ** 2) ** 0.5  # of unit variance where alpha^2 + sigma^2 = 1
        latents = SAMPLERS["uni_pc"](model, start, [float(one) for one in sigmas])
        theirs = picture(reference, latents * float(np.exp(between[-1])))
    assert psnr(made(ours, png(tmp_path / "x.png", parameters=text)), theirs) >= 50
