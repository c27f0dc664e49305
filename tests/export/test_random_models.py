"""random:sd15 and the others: the true architectures, and an export that fits an ordinary machine."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sdrt.bundle import Bundle
from sdrt_export.parameters import streaming
from sdrt_export.random_models import RandomWeights
from sdrt_export.sources import open_source
from sdrt_export.tensorrt_lint import lint

# Counted in the published checkpoints' safetensors headers.
PARAMETERS = {
    "sd15": {"text_encoder": 123_060_480, "unet": 859_520_964, "vae": 83_653_863},
    "sd21": {"text_encoder": 340_387_840, "unet": 865_910_724, "vae": 83_653_863},
    "sdxl": {
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
        "unet": 2_567_463_684,
        "vae": 83_653_863,
    },
}


@pytest.mark.parametrize(
    ("name", "family", "side", "sampler"),
    [
        ("sd15", "stable-diffusion-1", 512, "pndm"),
        ("sd21", "stable-diffusion-2", 768, "ddim"),
        ("sdxl", "stable-diffusion-xl", 1024, "euler"),
    ],
)
def test_architectures_are_the_true_ones(name: str, family: str, side: int, sampler: str) -> None:
    checkpoint = open_source(f"random:{name}")
    assert checkpoint.parameters == PARAMETERS[name]
    configs = checkpoint.configs
    assert configs.family == family
    for text in configs.text:
        assert (text.max_length, text.bos_token_id, text.eos_token_id) == (77, 49406, 49407)
    assert (configs.defaults.width, configs.defaults.height, configs.defaults.sampler) == (
        side,
        side,
        sampler,
    )


def test_weights_follow_the_seed_and_keep_signals_sane() -> None:
    vae = open_source("random:sd15").build("vae")
    first, again, other = (RandomWeights(vae, "vae", seed) for seed in (0, 0, 1))
    name = "decoder.conv_in.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
    with torch.inference_mode(), streaming(vae, first):
        picture = vae.decode(torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))).sample
    assert 0.5 < picture.std() < 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("source", "precision"), [("sd15", "fp32"), ("sd15", "fp16"), ("sd21", "fp16"), ("sdxl", "fp16")]
)
def test_full_size_export_stays_within_8_gb_and_is_what_tensorrt_takes(
    tmp_path: Path, source: str, precision: str
) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "sdrt",
            "export",
            f"random:{source}",
            "-o",
            tmp_path / "b",
            "--precision",
            precision,
        ],
        check=True,
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert peak < 8e9, f"{peak / 1e9:.1f} GB"
    bundle = Bundle.open(tmp_path / "b", verify="full")
    worst = max(trial.relative_l2 for graph in bundle.manifest.graphs.values() for trial in graph.fidelity)
    assert worst <= {"fp32": 1e-5, "fp16": 5e-3}[precision]
    assert [lint(path) for path in sorted((tmp_path / "b").glob("*/model.onnx"))] == [[]] * len(
        bundle.manifest.graphs
    )
