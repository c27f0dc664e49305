"""diffusers as a peer, eager or with its U-Net compiled; and the base of peers with its interface."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline

from sdrt.errors import InputError
from sdrt_bench.peers import Generated, Job, Kept, PeerStart
from sdrt_bench.peers.schedulers import SCHEDULERS

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Timers:
    """Functions that tell how long they take, by stage.

    device: on a GPU work is queued, so that it is its clock that is read, once all is done.
    """

    def __init__(self, device: str) -> None:
        self._mark = _cuda_mark if device == "cuda" else time.perf_counter
        self._marks: dict[str, list[tuple[Any, Any]]] = defaultdict(list)

    def clear(self) -> None:
        """Forget all runs."""
        self._marks.clear()

    def runs(self, stage: str) -> list[float]:
        """Seconds of each run of a stage; the device must have done its work."""
        return [_seconds(started, ended) for started, ended in self._marks[stage]]

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def run(*args: Any, **settings: Any) -> Any:
            started = self._mark()
            result = function(*args, **settings)
            self._marks[stage].append((started, self._mark()))
            return result

        return run


def _cuda_mark() -> Any:
    event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _seconds(started: Any, ended: Any) -> float:
    if isinstance(started, float):
        return float(ended - started)
    return float(started.elapsed_time(ended)) / 1000


class DiffusersPeer:
    """A checkpoint in diffusers' pipeline."""

    dtype = torch.float32  # of the latents that the pipeline is given

    def __init__(self, start: PeerStart) -> None:
        self.start = start
        self.timers = Timers(start.device)
        if start.device == "cuda" and not torch.cuda.is_available():
            raise ImportError("this build of torch finds no GPU")

    def load(self) -> None:
        """Load the checkpoint and put timers around its networks."""
        self.pipeline = self.open()
        self.pipeline.set_progress_bar_config(disable=True)
        self._trained_with = dict(self.pipeline.scheduler.config)
        self.time_networks()

    def open(self) -> Any:
        """The pipeline."""
        self.dtype = DTYPES[self.start.precision]
        pipeline = DiffusionPipeline.from_pretrained(
            Path(self.start.model), torch_dtype=self.dtype, local_files_only=True
        )
        if self.start.device == "cuda":
            pipeline.to("cuda")
            pipeline.unet.to(memory_format=torch.channels_last)
            pipeline.vae.to(memory_format=torch.channels_last)
        return pipeline

    def time_networks(self) -> None:
        """Put timers around the networks."""
        parts, timed = self.pipeline, self.timers.timed
        unet = parts.unet.forward
        if self.start.runner == "diffusers-compiled":
            # what an earlier run compiled is kept in /tmp: with it a first picture took 11 s, without it 50
            torch.compiler.config.force_disable_caches = True
            # both with CUDA graphs
            on_cuda = "max-autotune" if self.start.autotune else "reduce-overhead"
            mode = on_cuda if self.start.device == "cuda" else None
            # fullgraph: an error where it would leave a part to eager mode
            unet = torch.compile(unet, fullgraph=True, mode=mode)
        parts.unet.forward = timed("unet", unet)
        for encoder in (parts.text_encoder, getattr(parts, "text_encoder_2", None)):
            if encoder is not None:
                encoder.forward = timed("text", encoder.forward)
        parts.vae.decode = timed("vae", parts.vae.decode)

    def generate(self, job: Job) -> tuple[Generated, Kept]:
        """Make the pictures."""
        self._schedule(job.sampler)
        self.timers.clear()
        latents: list[Any] = []

        def after_step(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            latents.append(tensors["latents"][0].float().cpu().numpy().copy())
            return tensors

        with torch.inference_mode():
            started = time.perf_counter()
            generators = [torch.Generator("cpu").manual_seed(job.seed + i) for i in range(job.batch)]
            images = self.pipeline(
                [job.prompt] * job.batch,
                width=job.width,
                height=job.height,
                num_inference_steps=job.steps,
                guidance_scale=job.guidance_scale,
                latents=self._noise(job, generators),
                generator=generators,
                output_type="np",
                callback_on_step_end=after_step if job.keep else None,
            ).images
            seconds = time.perf_counter() - started
        generated = Generated(
            seconds=seconds,
            text=sum(self.timers.runs("text")),
            evaluations=tuple(self.timers.runs("unet")),
            vae=sum(self.timers.runs("vae")),
        )
        return generated, Kept(pixels=np.round(images * 255).astype(np.uint8), latents=np.array(latents))

    def _schedule(self, sampler: str) -> None:
        if sampler not in SCHEDULERS:
            raise InputError(f"sampler {sampler} is not one that peers share: {', '.join(SCHEDULERS)}")
        name, settings = SCHEDULERS[sampler]
        self.pipeline.scheduler = getattr(diffusers, name).from_config(self._trained_with, **settings)

    def _noise(self, job: Job, generators: list[torch.Generator]) -> Any:
        """Where the run starts, drawn in float32 whatever the precision: torch draws others in bf16."""
        channels, factor = 4, self.pipeline.vae_scale_factor
        shape = (1, channels, job.height // factor, job.width // factor)
        drawn = [torch.randn(shape, generator=generator) for generator in generators]
        return torch.cat(drawn).to(self.start.device, self.dtype)


def open_peer(start: PeerStart) -> DiffusersPeer:
    """diffusers, imported with the class that is used."""
    return DiffusersPeer(start)
