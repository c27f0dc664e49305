"""Pictures of diffusers' pipelines, and how near ours are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

from sdrt.request import Request

MULTISTEP, SDE = "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "dpmpp_2m": (MULTISTEP, {"algorithm_type": "dpmsolver++"}),
    # the rest in test_every_sampler_gives_diffusers_picture
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm_2": ("KDPM2DiscreteScheduler", {}),
    "dpm_2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpmpp_2m_sde": (MULTISTEP, SDE),
    "dpmpp_2m_sde_heun": (MULTISTEP, {**SDE, "solver_type": "heun"}),
    "dpmpp_2m_heun": (MULTISTEP, {"solver_type": "heun"}),
    "dpmpp_3m": (MULTISTEP, {"solver_order": 3}),
    "dpmpp_single_2": ("DPMSolverSinglestepScheduler", {}),
    "dpmpp_single_3": ("DPMSolverSinglestepScheduler", {"solver_order": 3}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "unipc_3": ("UniPCMultistepScheduler", {"solver_order": 3}),
    "deis": ("DEISMultistepScheduler", {}),
    "deis_3": ("DEISMultistepScheduler", {"solver_order": 3}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
}


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio of two pictures of 8 bits, in dB."""
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def open_pipeline(folder: Path, pipeline_class: Any = diffusers.DiffusionPipeline) -> Any:
    """The pipeline of a checkpoint, in FP32, without progress bar and safety checker."""
    pipeline = pipeline_class.from_pretrained(folder, safety_checker=None, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.trained_with = dict(pipeline.scheduler.config)  # of another scheduler's it would keep options
    return pipeline


def take_sampler(pipeline: Any, request: Request) -> None:
    """Give a pipeline of `open_pipeline` the scheduler that a request of ours means."""
    name, settings = SCHEDULERS[request.sampler]
    if request.sigma_schedule != "plain":
        settings = {**settings, f"use_{request.sigma_schedule}_sigmas": True}
    if request.spacing is not None:
        settings = {**settings, "timestep_spacing": request.spacing}
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.trained_with, **settings)


def run(pipeline: Any, *args: Any, seed: int, **settings: Any) -> NDArray[np.uint8]:
    """One picture of a pipeline with its own settings: [H, W, 3]."""
    generator = torch.Generator("cpu").manual_seed(seed)
    images = pipeline(*args, generator=generator, output_type="np", **settings).images
    rounded: NDArray[np.uint8] = np.round(images[0] * 255).astype(np.uint8)
    return rounded


def picture(pipeline: Any, request: Request, **settings: Any) -> NDArray[np.uint8]:
    """The picture that a pipeline makes of our request: [H, W, 3]."""
    return run(
        pipeline,
        request.prompt,
        negative_prompt=request.negative_prompt or None,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        seed=request.seed,
        **settings,
    )
