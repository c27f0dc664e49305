"""random:sd15: the true architectures, and an export that fits an ordinary machine."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sdrt.bundle import Bundle
from sdrt_export.random_models import load_random
from sdrt_export.sources import open_source


def test_architecture_is_that_of_stable_diffusion_15() -> None:
    checkpoint = open_source("random:sd15")
    # Counted in the published checkpoint's safetensors headers.
    assert checkpoint.parameters == {"text_encoder": 123_060_480, "unet": 859_520_964, "vae": 83_653_863}
    text, defaults = checkpoint.configs.text, checkpoint.configs.defaults
    assert (text.max_length, text.bos_token_id, text.eos_token_id) == (77, 49406, 49407)
    assert (defaults.width, defaults.height) == (512, 512)


def test_weights_follow_the_seed_and_keep_signals_sane() -> None:
    first, again, other = (load_random("vae", seed) for seed in (0, 0, 1))
    assert torch.equal(first.decoder.conv_in.weight, again.decoder.conv_in.weight)
    assert not torch.equal(first.decoder.conv_in.weight, other.decoder.conv_in.weight)
    with torch.inference_mode():
        picture = first.decode(torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))).sample
    assert 0.5 < picture.std() < 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_full_size_export_stays_within_8_gb(tmp_path: Path, precision: str) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "sdrt",
            "export",
            "random:sd15",
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
