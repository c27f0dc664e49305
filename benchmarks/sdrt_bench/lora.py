"""What LoRAs cost at load: `sdrt.Pipeline.load` with none, one and two.

    python -m sdrt_bench.lora BUNDLE [--rank 32] [--output FILE]

The files are made here: random factors for every attention, feed-forward and projection layer of the bundle's
networks, in FP16 under kohya's names. Each load is a process of its own, so that its peak memory is its own;
medians of interleaved runs, of which the first warms the disk cache and is left out.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from sdrt import manifest as manifests
from sdrt.lora.keys import COMPONENTS
from sdrt.lora.overrides import read_parameters
from sdrt_bench import machine

_PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
_USUAL = re.compile(r"(attn\d?\.|ff\.net|proj_in|proj_out|mlp\.fc).*\.weight$")  # what trainers change
_LOAD = """
import json, resource, sys, time
from sdrt.pipeline import Pipeline
bundle, *files = sys.argv[1:]
started, stages = time.perf_counter(), []
def progress(stage):
    stages.append((stage, time.perf_counter()))
Pipeline.load(bundle, verify="fast", loras=[(file, 0.8) for file in files], progress=progress)
ended = time.perf_counter()
ends = [at for _, at in stages[1:]] + [ended]
merging = sum(end - at for (stage, at), end in zip(stages, ends) if "LoRA" in stage)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"load_s": ended - started, "merging_s": merging, "peak_mb": peak / 1024}))
"""


def write_lora(bundle: Path, path: Path, rank: int, seed: int) -> int:
    """Write a LoRA for the layers that trainers usually change; returns how many there are."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(seed)
    graphs = manifests.read(bundle / manifests.FILE_NAME).graphs
    tensors: dict[str, Any] = {}
    for component in [name for name in COMPONENTS if name in graphs]:
        for name, shape in read_parameters(bundle / graphs[component].path).items():
            if not _USUAL.search(name):
                continue
            module = _PREFIXES[component] + name.removesuffix(".weight").replace(".", "_")
            down = rng.normal(0, 0.01, (rank, *shape[1:]))
            up = rng.normal(0, 0.01, (shape[0], rank, *(1 for _ in shape[2:])))
            tensors[f"{module}.lora_down.weight"] = down.astype(np.float16)
            tensors[f"{module}.lora_up.weight"] = up.astype(np.float16)
            tensors[f"{module}.alpha"] = np.array(rank, np.float16)
    save_file(tensors, path)
    return len(tensors) // 3


def measure(bundle: Path, files: list[Path], runs: int) -> dict[str, dict[str, float]]:
    """Medians for none, the first, and all of the files."""
    figures: dict[str, list[dict[str, float]]] = {f"{count} LoRAs": [] for count in range(len(files) + 1)}
    for _ in range(runs + 1):
        for count, name in enumerate(figures):
            command = [sys.executable, "-c", _LOAD, str(bundle), *map(str, files[:count])]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            figures[name].append(json.loads(answer))
    return {
        name: {key: median(one[key] for one in found[1:]) for key in found[0]}
        for name, found in figures.items()
    }


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--rank", default=32, show_default=True, help="Of both LoRAs.")
@click.option("--runs", default=3, show_default=True, help="How often each is measured.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the report as JSON.")
def main(bundle: Path, rank: int, runs: int, output: Path | None) -> None:
    """Measure how long BUNDLE takes to load, and how much memory, with no LoRA, one and two."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.safetensors" for i in range(2)]
        modules = [write_lora(bundle, file, rank, seed) for seed, file in enumerate(files)]
        megabytes = files[0].stat().st_size / 1e6
        figures = measure(bundle, files, runs)
    click.echo(f"{modules[0]} modules of rank {rank}, {megabytes:.0f} MB each")
    for name, found in figures.items():
        click.echo(
            f"{name}: load {found['load_s']:.2f} s, of which merging {found['merging_s']:.2f} s; "
            f"peak {found['peak_mb']:.0f} MB"
        )
    if output is not None:
        machine.write_report(
            output,
            f"python -m sdrt_bench.lora {bundle.name} --rank {rank} --runs {runs}",
            modules=modules[0],
            megabytes=megabytes,
            medians=figures,
        )


if __name__ == "__main__":
    main()
