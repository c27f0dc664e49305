"""The networks of a bundle by themselves: how long each takes by its number of rows, and how exact it is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

from sdrt.backends import Array, Runtime, open_runtime
from sdrt.bundle import Bundle
from sdrt.errors import SdrtError
from sdrt.manifest import GraphName
from sdrt.tensors import TensorSpec
from sdrt_bench.gpu.report import NetworkTime, Sameness
from sdrt_bench.report import Figure

NETWORKS: tuple[GraphName, ...] = ("unet", "vae_decoder", "text_encoder")
SAME_FP16 = 5e-3  # relative L2: what an export holds its FP16 graphs to
_GUIDED = 2  # rows of the U-Net for a picture
_WARM = 4  # runs before the first that counts: the second of them is captured as a CUDA graph
_LEAST_RUNS = 5


class Network:
    """One graph with buffers of one shape, bound and filled with random numbers."""

    def __init__(self, runtime: Runtime, bundle: Bundle, graph: GraphName, size: int, pictures: int) -> None:
        entry, manifest = bundle.manifest.graphs[graph], bundle.manifest
        self.rows = pictures * _GUIDED if graph == "unet" else 1 if graph == "text_encoder" else pictures
        tokens, latent = manifest.text[0].max_length, size // manifest.vae.scale_factor
        given = {name: _shape(spec, self.rows, tokens, latent) for name, spec in entry.inputs.items()}
        made = {
            name: _shape(spec, self.rows, tokens, size if graph == "vae_decoder" else latent)
            for name, spec in entry.outputs.items()
        }
        self._device = runtime.device
        self._graph = runtime.load(bundle.path / entry.path_for(runtime.name))
        self.inputs = {
            name: _random(spec.dtype, given[name], manifest.text[0].eos_token_id, seed)
            for seed, (name, spec) in enumerate(entry.inputs.items())
        }
        types = {name: spec.dtype for name, spec in (*entry.inputs.items(), *entry.outputs.items())}
        self._buffers = {
            name: self._device.empty(shape, types[name]) for name, shape in (given | made).items()
        }
        self._output = next(iter(entry.outputs))
        self._graph.bind(self._buffers)
        for name, array in self.inputs.items():
            self._device.upload(array, self._buffers[name])

    def run(self) -> Array:
        """Its first output."""
        self._graph.run()
        return self._device.download(self._buffers[self._output])

    def times(self, seconds: float) -> list[float]:
        """Of runs that are queued one behind the other for about so long, after some that do not count."""
        for _ in range(_WARM):
            self._graph.run()
        self._device.synchronize()
        started = time.perf_counter()
        self._graph.run()
        self._device.synchronize()
        each = max(time.perf_counter() - started, 1e-6)
        marks = [self._device.mark()]
        for _ in range(max(int(seconds / each), _LEAST_RUNS)):
            self._graph.run()
            marks.append(self._device.mark())
        self._device.synchronize()
        return [self._device.seconds(*pair) for pair in pairwise(marks)]

    def close(self) -> None:
        """Free the graph."""
        self._graph.close()


def _shape(spec: TensorSpec, rows: int, tokens: int, side: int) -> tuple[int, ...]:
    """[rows, channels, side, side] or [rows, tokens, width], with `rows` and what is free filled in."""
    free = side if len(spec.shape) == 4 else tokens
    return (rows, *(free if axis is None else axis for axis in spec.shape[1:]))


def _random(dtype: str, shape: tuple[int, ...], end_token: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "i":
        tokens: Array = generator.integers(0, 512, shape).astype(dtype)
        tokens[:, shape[1] // 2 :] = end_token
        return tokens
    if len(shape) == 1:  # timesteps
        return np.full(shape, 500.0, dtype)
    return generator.standard_normal(shape, np.float32).astype(dtype)


def time_networks(
    source: str, bundle: Path, backend: str, size: int, pictures: Sequence[int], seconds: float
) -> Iterator[NetworkTime]:
    """Seconds of one run, with CUDA graphs and without, for every number of pictures with engines."""
    opened = Bundle.open(bundle)
    for cuda_graphs in (True, False) if backend == "aoti:cuda" else (False,):
        runtime = open_runtime(backend, cuda_graphs=cuda_graphs).for_bundle(opened)
        for graph in NETWORKS:
            for count in pictures if graph != "text_encoder" else (1,):
                try:
                    network = Network(runtime, opened, graph, size, count)
                except SdrtError as error:  # no engines for it, or no memory
                    print(f"{graph}, {count} pictures: {error}", flush=True)
                    continue
                yield NetworkTime(
                    model=source,
                    graph=graph,
                    width=size,
                    height=size,
                    pictures=count,
                    rows=network.rows,
                    cuda_graph=cuda_graphs,
                    seconds=Figure.of(network.times(seconds)),
                )
                network.close()


def compare_networks(
    source: str, bundle: Path, checkpoint: Path, backend: str, size: int
) -> Iterator[Sameness]:
    """Relative L2 of each network's output against its PyTorch module in FP32, on the same inputs."""
    import torch

    from sdrt_export.graphs import SINES
    from sdrt_export.sources import open_source
    from sdrt_export.specs import MODELS, graph_specs

    torch.backends.cudnn.allow_tf32 = False
    opened, device = Bundle.open(bundle), backend.partition(":")[2]
    runtime = open_runtime(backend).for_bundle(opened)
    for spec in graph_specs(open_source(source).configs):
        if spec.name not in NETWORKS:
            continue
        network = Network(runtime, opened, spec.name, size, 1)
        made = network.run().astype(np.float64)
        network.close()
        model: Any = MODELS[spec.component].from_pretrained(
            checkpoint / spec.component, torch_dtype=torch.float32, local_files_only=True
        )
        inputs = {
            name: torch.from_numpy(np.asarray(array)).to(device)
            for name, array in cast("Mapping[str, Any]", network.inputs).items()
        }
        wide = {
            name: one.float() if one.is_floating_point() or name in SINES else one
            for name, one in inputs.items()
        }
        expected = next(iter(spec.reference(model.to(device).eval(), wide).values()))
        right = expected.cpu().double().numpy()
        yield Sameness(
            what=f"{source}, FP16, {backend}: {spec.name}",
            reference="its PyTorch module in FP32",
            relative_l2=float(np.linalg.norm(made - right) / np.linalg.norm(right)),
            gate=SAME_FP16,
        )
        del model, inputs, wide, expected
