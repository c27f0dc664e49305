"""What the runtime itself costs, on the demo model.

    python -m sdrt_bench.overhead [--output FILE]        also: make bench

Two figures. Per step: the time of the denoising loop outside the U-Net graph. Per process: `sdrt generate` as
a whole against a Python that imports onnxruntime, numpy and tokenizers and ends. Medians of interleaved runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import click

from sdrt.backends import Backend, Buffer, open_runtime
from sdrt.bundle import DEMO, Bundle
from sdrt.conditioning import Conditioner
from sdrt.denoise import Denoising, StepGraph
from sdrt.noise import NoiseGenerator
from sdrt.request import resolve_request
from sdrt.samplers import compile_sampler
from sdrt.samples import Sample, initial_latents
from sdrt.text_encoder import TextEncoder
from sdrt.tokenizer import PromptTokenizer
from sdrt_bench import machine

PROMPT = "a large red circle on a blue background"
IMPORTS = "import onnxruntime, numpy, tokenizers"


class TimedGraph:
    """A backend that adds up how long its runs take. `seconds` since it was last set to 0."""

    def __init__(self, graph: Backend) -> None:
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self.seconds = 0.0
        self._graph = graph

    def bind(self, buffers: Mapping[str, Buffer]) -> None:
        """As the graph's own."""
        self._graph.bind(buffers)

    def run(self) -> None:
        """As the graph's own, timed."""
        started = time.perf_counter()
        self._graph.run()
        self.seconds += time.perf_counter() - started

    def close(self) -> None:
        """As the graph's own."""
        self._graph.close()


def step_overhead(runs: int) -> dict[str, float]:
    """Milliseconds per step at the demo model's size, steps and guidance, medians of `runs` loops.

    network_ms: in the U-Net graph; overhead_ms: all the rest of the loop, setting up the batch included.
    """
    bundle = Bundle.open(DEMO)
    manifest, runtime = bundle.manifest, open_runtime("onnxruntime")
    unet = TimedGraph(runtime.load(bundle.path / manifest.graphs["unet"].path))
    (text,) = manifest.text
    encoder = TextEncoder(
        runtime,
        PromptTokenizer(bundle.path / text.tokenizer),
        runtime.load(bundle.path / manifest.graphs[text.graph].path),
        text,
    )
    defaults, vae = manifest.defaults, manifest.vae
    step = StepGraph(runtime, unet.inputs["sample"].dtype)
    table = compile_sampler(defaults.sampler, manifest.schedule, defaults.steps)
    request = resolve_request(manifest, PROMPT, guidance_scale=2.0)
    conditions = Conditioner([encoder], manifest.conditioning).conditions(request, table)
    shape = (vae.latent_channels, defaults.height // vae.scale_factor, defaults.width // vae.scale_factor)
    network, overhead = [], []
    for _ in range(runs + 1):
        unet.seconds = 0.0
        started = time.perf_counter()
        noise = NoiseGenerator(0)
        latents = initial_latents(table, noise, shape)
        sample = Sample(table=table, conditions=conditions, latents=latents, noise=noise)
        for _ in Denoising(runtime, unet, step, [sample], shape):
            pass
        total = time.perf_counter() - started
        network.append(unet.seconds / table.evaluations * 1e3)
        overhead.append((total - unet.seconds) / table.evaluations * 1e3)
    return {"network_ms": median(network[1:]), "overhead_ms": median(overhead[1:])}  # the first run warms up


def process_times(runs: int) -> dict[str, float]:
    """Seconds of whole processes, medians of `runs` interleaved ones.

    imports: `python -c "import onnxruntime, numpy, tokenizers"`; generate: `sdrt generate` of one picture;
    networks: what the second spends between loaded graphs and pictures on disk, as it says itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sdrt", "generate", PROMPT, "--seed", "1", "--json"]
        command += ["-o", str(Path(folder) / "picture.png")]
        imports, generate, networks = [], [], []
        for _ in range(runs + 1):
            imports.append(_timed([sys.executable, "-c", IMPORTS])[0])
            seconds, answer = _timed(command)
            generate.append(seconds)
            networks.append(json.loads(answer)["seconds"]["generate"])
    named = {"imports": imports, "generate": generate, "networks": networks}
    return {name: median(values[1:]) for name, values in named.items()}


def _timed(command: list[str]) -> tuple[float, str]:
    """Seconds that a process took, and what it printed."""
    started = time.perf_counter()
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - started, answer


@click.command()
@click.option("--runs", default=15, show_default=True, help="How often each is measured.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the report as JSON.")
def main(runs: int, output: Path | None) -> None:
    """Measure the runtime's overhead per step and per process on the demo model."""
    step, process = step_overhead(runs), process_times(runs)
    ratio = (process["generate"] - process["networks"]) / process["imports"]
    click.echo(f"step:    U-Net {step['network_ms']:.2f} ms, everything else {step['overhead_ms']:.3f} ms")
    click.echo(
        f"process: {process['generate']:.3f} s, of which networks {process['networks']:.3f} s; "
        f"the rest is {ratio:.2f} x the bare imports ({process['imports']:.3f} s)"
    )
    if output is not None:
        machine.write_report(
            output,
            f"python -m sdrt_bench.overhead --runs {runs}",
            step=step,
            process_seconds=process,
            process_without_networks_over_imports=ratio,
        )


if __name__ == "__main__":
    main()
