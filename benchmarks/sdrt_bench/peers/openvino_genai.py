"""OpenVINO GenAI's Text2ImagePipeline as a peer, on the CPU, with graphs of optimum-intel's export.

It starts from torch's noise if asked to, so its pictures are those of the reference where it has the sampler.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino_genai  # type: ignore[import-not-found]

from sdrt_bench.made_whole import made_whole
from sdrt_bench.peers import Generated, Job, Kept, PeerStart

# sampler -> name of a `Scheduler.Type`; another sampler is replaced by the first
SCHEDULERS = {"ddim": "DDIM", "euler": "EULER_DISCRETE", "pndm": "PNDM"}
_CUT = "its pixels are cut off to bytes, not rounded: 51 dB at most against a peer that rounds"
_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class GenAIPeer:
    """A checkpoint in OpenVINO GenAI."""

    def __init__(self, start: PeerStart) -> None:
        self._start = start
        self._folder = Path(start.converted)

    def convert(self) -> None:
        """Let optimum-intel export the checkpoint and its tokenizer, with the weights' own precision."""
        from optimum.exporters.openvino import main_export  # type: ignore[import-not-found]

        if self._folder.exists():
            return
        with made_whole(self._folder) as making:
            main_export(
                self._start.model,
                making,
                task="text-to-image",
                library_name="diffusers",
                convert_tokenizer=True,
                local_files_only=True,
            )
            # its PNDM has no Runge-Kutta steps and its DDIM does not clip; both refuse a config that does not
            # say so
            config = making / "scheduler" / "scheduler_config.json"
            _change_config(config, skip_prk_steps=True, clip_sample=False)

    def load(self) -> None:
        """Compile the networks. Sizes stay free, as they are for the other peers."""
        hint = _PRECISIONS[self._start.precision]
        self._pipeline = openvino_genai.Text2ImagePipeline(
            str(self._folder), "CPU", INFERENCE_PRECISION_HINT=hint
        )

    def generate(self, job: Job) -> tuple[Generated, Kept]:
        """Make the pictures."""
        name = SCHEDULERS.get(job.sampler, next(iter(SCHEDULERS.values())))
        self._pipeline.set_scheduler(
            openvino_genai.Scheduler.from_config(
                str(self._folder / "scheduler" / "scheduler_config.json"),
                getattr(openvino_genai.Scheduler.Type, name),
            )
        )
        latents: list[Any] = []

        def after_step(step: int, steps: int, tensor: Any) -> bool:
            latents.append(np.array(tensor.data[0], np.float32))
            return False

        started = time.perf_counter()
        pixels = self._pipeline.generate(
            job.prompt,
            width=job.width,
            height=job.height,
            num_inference_steps=job.steps,
            guidance_scale=job.guidance_scale,
            num_images_per_prompt=job.batch,
            generator=openvino_genai.TorchGenerator(job.seed),
            **({"callback": after_step} if job.keep else {}),
        )
        seconds = time.perf_counter() - started
        metrics = self._pipeline.get_performance_metrics()
        why = None if job.sampler in SCHEDULERS else f"it has no {job.sampler}, and ran {name} instead"
        generated = Generated(
            seconds=seconds,
            text=sum(metrics.get_text_encoder_infer_duration().values()) / 1e3,  # in whole ms
            evaluations=tuple(us / 1e6 for us in metrics.raw_metrics.unet_inference_durations),
            vae=metrics.get_vae_decoder_infer_duration() / 1e3,
            uncompared=why,
            notes=(_CUT, why) if why else (_CUT,),
        )
        return generated, Kept(pixels=np.array(pixels.data), latents=np.array(latents))


def _change_config(path: Path, **changes: object) -> None:
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def open_peer(start: PeerStart) -> GenAIPeer:
    """OpenVINO GenAI, imported."""
    return GenAIPeer(start)
