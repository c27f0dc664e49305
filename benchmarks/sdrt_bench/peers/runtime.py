"""sdrt itself as a peer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sdrt import graphs
from sdrt.backends import Array, Buffer, open_runtime
from sdrt.errors import BackendUnavailableError, MissingExtraError
from sdrt.manifest import GraphName
from sdrt.pipeline import Pipeline
from sdrt.request import WHOLE, resolve_request
from sdrt_bench.peers import Generated, Job, Kept, PeerStart, Work
from sdrt_bench.timed_graph import TimedRuntime


class RuntimePeer:
    """A bundle with one backend, its graphs timed."""

    def __init__(self, start: PeerStart) -> None:
        try:
            opened = open_runtime(start.backend, **({} if start.cuda_graphs else {"cuda_graphs": False}))
        except (BackendUnavailableError, MissingExtraError) as error:
            raise ImportError(str(error)) from error
        self._runtime = TimedRuntime(opened, self._after)
        self._path = Path(start.model)
        self._steps = {graphs.path("step", dtype) for dtype in ("float32", "float16")}
        self._guidance_interval = start.guidance_interval or WHOLE
        self._deep_cache = start.deep_cache
        self._keep = False
        self._states: list[Array] = []

    def load(self) -> None:
        """Check the bundle, as `sdrt generate` does, and load its graphs."""
        self._pipeline = Pipeline.load(self._path, backend=self._runtime)

    def generate(self, job: Job) -> tuple[Generated, Kept]:
        """Make the pictures."""
        self._runtime.clear()
        self._keep, self._states = job.keep is not None, []
        request = resolve_request(
            self._pipeline.manifest,
            job.prompt,
            width=job.width,
            height=job.height,
            steps=job.steps,
            sampler=job.sampler,
            guidance_scale=job.guidance_scale,
            seed=job.seed,
            count=job.batch,
            guidance_interval=self._guidance_interval,
            deep_cache=self._deep_cache,
            limits=False,
        )
        started = time.perf_counter()
        pixels = np.stack([picture.pixels for picture in self._pipeline.run(request)])
        seconds = time.perf_counter() - started
        table = request.compile(self._pipeline.manifest)
        generated = Generated(
            seconds=seconds,
            text=sum(sum(self._runs(text.graph)) for text in self._pipeline.manifest.text),
            evaluations=(*self._runs("unet"), *self._runs("unet_shallow")),
            vae=sum(self._runs("vae_decoder")),
        )
        # the first state is where the run starts; a step of two evaluations ends with its second
        states = self._states[1 : table.evaluations + 1]
        per_step = max(table.evaluations // job.steps, 1)
        return generated, Kept(pixels=pixels, latents=np.array(states[per_step - 1 :: per_step]))

    def work(self, job: Job) -> dict[str, Work]:
        """Of one run of each graph at the job's size, one picture, guided."""
        from sdrt_bench.operations import count_work, input_shapes

        manifest = self._pipeline.manifest
        return {
            name: count_work(self._path / entry.path, input_shapes(manifest, name, job))
            for name, entry in manifest.graphs.items()
            if name != "vae_encoder"
        }

    def _runs(self, graph: GraphName) -> list[float]:
        entry = self._pipeline.manifest.graphs.get(graph)
        return [] if entry is None else self._runtime.runs(self._path / entry.path_for(self._runtime.name))

    def _after(self, graph: Path, buffers: Mapping[str, Buffer]) -> None:
        if self._keep and graph in self._steps:
            # [B, SLOTS, C, h, w]: the latents of the first picture
            self._states.append(self._runtime.device.download(buffers["next_state"])[0, 0])


def open_peer(start: PeerStart) -> RuntimePeer:
    """sdrt with the backend imported."""
    return RuntimePeer(start)
