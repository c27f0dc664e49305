"""Pictures of diffusers' pipelines, and how near ours are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

from sdrt.request import Request


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio of two pictures of 8 bits, in dB."""
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def open_pipeline(folder: Path, pipeline_class: Any = diffusers.DiffusionPipeline) -> Any:
    """The pipeline of a checkpoint, in FP32, without progress bar and safety checker."""
    pipeline = pipeline_class.from_pretrained(folder, safety_checker=None, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


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
