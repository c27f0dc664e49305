"""stable-diffusion.cpp through stable-diffusion-cpp-python, on the CPU. It reads folders in diffusers layout.

It knows the published architectures alone, and its noise levels are k-diffusion's, whatever the checkpoint's
scheduler says; so its pictures are others than the reference's, from the same noise.
"""

from __future__ import annotations

import ctypes
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import stable_diffusion_cpp  # type: ignore[import-not-found]

from sdrt_bench.peers import Generated, Job, Kept, PeerStart

SAMPLERS = {"euler": "euler", "dpmpp_2m": "dpm++2m", "heun": "heun", "euler_a": "euler_a", "lcm": "lcm"}
_NEAREST = {"ddim": "euler"}  # without noise they are one method, on other levels
_PREDICTIONS = {"epsilon": "eps", "v_prediction": "v"}
_TYPES = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
_TEXT = re.compile(r"get_learned_condition completed, taking ([\d.]+)s")
_VAE = re.compile(r"decode_first_stage completed, taking ([\d.]+)s")
_LEAST_LEVEL = 1  # information; 0 is for its developers
_KEPT_LINES = 200


class StableDiffusionCppPeer:
    """A checkpoint in stable-diffusion.cpp."""

    def __init__(self, start: PeerStart) -> None:
        self._start = start
        self._said: list[str] = []
        # kept by this object: ctypes frees a callback that nobody holds
        self._log = stable_diffusion_cpp.sd_log_callback(self._hear)

    def load(self) -> None:
        """Load the checkpoint. Raises RuntimeError with what the library said if it does not."""
        config = Path(self._start.model, "scheduler", "scheduler_config.json").read_text(encoding="utf-8")
        prediction = json.loads(config).get("prediction_type", "epsilon")
        stable_diffusion_cpp.sd_set_log_callback(self._log, ctypes.c_void_p(0))
        self._model = stable_diffusion_cpp.StableDiffusion(
            model_path=self._start.model,
            wtype=_TYPES[self._start.precision],
            rng_type="cpu",  # torch's, as the reference
            sampler_rng_type="cpu",
            prediction=_PREDICTIONS[prediction],
            vae_decode_only=True,
        )
        if not self._model.model:  # a null pointer, and no exception
            raise RuntimeError(f"it cannot load the checkpoint: {' '.join(self._said[-1:])}")

    def generate(self, job: Job) -> tuple[Generated, Kept]:
        """Make the pictures, one after another: it has no batches."""
        sampler = SAMPLERS.get(job.sampler) or SAMPLERS[_NEAREST.get(job.sampler, "euler")]
        self._said.clear()
        evaluations: list[float] = []
        before = 0.0

        def after_step(step: int, steps: int, mean: float) -> None:
            # `mean` is of all steps so far: 20.1 and 39.3 s were a first step of 20.1 and a second of 58.5
            nonlocal before
            now = time.perf_counter()
            if step:  # 0 only says that it starts
                evaluations.append(now - before)
            before = now

        started = time.perf_counter()
        images = self._model.generate_image(
            prompt=job.prompt,
            width=job.width,
            height=job.height,
            sample_steps=job.steps,
            sample_method=sampler,
            cfg_scale=job.guidance_scale,
            seed=job.seed,
            batch_count=job.batch,
            progress_callback=after_step,
        )
        seconds = time.perf_counter() - started
        notes = ["an evaluation is a step, its guided rows one after the other"]
        if self._start.precision == "fp32":
            # of SD 1.5 it holds 2721 MB, its text encoder whole and its VAE by half
            notes.append("asked for fp32, it keeps weights of convolutions in 16 bits")
        if SAMPLERS.get(job.sampler) is None:
            notes.append(f"it has no {job.sampler}, and ran {sampler} instead")
        generated = Generated(
            seconds=seconds,
            text=self._seconds(_TEXT),
            evaluations=tuple(evaluations) or None,
            vae=self._seconds(_VAE),
            uncompared="its noise levels are others than the checkpoint's scheduler has",
            notes=tuple(notes),
        )
        pixels = np.stack([np.asarray(image.convert("RGB")) for image in images])
        return generated, Kept(pixels=pixels, latents=np.empty((0, 0, 0, 0), np.float32))

    def _seconds(self, pattern: re.Pattern[str]) -> float | None:
        """What it printed of a stage, to 10 ms."""
        found = [float(match[1]) for match in map(pattern.search, self._said) if match]
        return sum(found) if found else None

    def _hear(self, level: int, text: bytes, data: Any) -> None:
        if level >= _LEAST_LEVEL:
            line = text.decode("utf-8", errors="replace").strip()
            self._said = [*self._said[-_KEPT_LINES:], line]


def open_peer(start: PeerStart) -> StableDiffusionCppPeer:
    """The binding, imported."""
    return StableDiffusionCppPeer(start)
