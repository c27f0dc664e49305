"""LoRAs that need few steps: known by name or header, proposed in one line, and nothing changed unasked."""

from __future__ import annotations

import lora_files
import numpy as np
import pytest
from PIL import Image

from sdrt.bundle import DEMO
from sdrt.lora.distilled import distilled
from sdrt.lora.overrides import read_parameters


@pytest.mark.parametrize(
    ("name", "kind", "steps"),
    [
        ("pytorch_lora_weights", None, None),
        ("lcm-lora-sdv1-5", "LCM", 4),
        ("LCM_LoRA_Weights_SD15", "LCM", 4),
        ("sdxl_lightning_8step_lora", "Lightning", 8),
        ("Hyper-SD15-1step-lora", "Hyper-SD", 1),
        ("Hyper-SDXL-12steps-CFG-lora", "Hyper-SD", 12),
        ("TCD-SD15-LoRA", "TCD", 4),
        ("dmd2_sdxl_4step_lora", "DMD2", 4),
        ("hyperrealistic skin", None, None),
        ("hyper details", None, None),
        ("lightnings", None, None),
        ("calcmatrix", None, None),
    ],
)
def test_by_name(name, kind, steps):
    found = distilled(name, {})
    assert (found and found.kind, found and found.settings["steps"]) == (kind, steps)


def test_by_header():
    assert distilled("weights", {"ss_output_name": "my_lcm_lora"}).kind == "LCM"
    assert distilled("weights", {"ss_comment": "not lcm"}) is None


def test_one_line_proposes_and_nothing_changes(sdrt_main, tmp_path):
    module = "mid_block.resnets.0.conv1"
    shape = read_parameters(DEMO / "unet/model.onnx")[f"{module}.weight"]
    factors = lora_files.kohya({"unet": lora_files.random_factors({module: shape}, 4, alpha=40.0)})
    for name in ("lcm-lora", "plain"):
        lora_files.write(tmp_path / f"{name}.safetensors", factors)
    quick = ("--steps", "2", "--seed", "1")
    noted = sdrt_main("generate", "a star", "--lora", "lcm-lora.safetensors", *quick, "-o", "x.png")
    (line,) = [line for line in noted.err.splitlines() if line.startswith("Note: ")]
    assert line.endswith("LCM, which is meant for --sampler lcm --guidance 1 --steps 4")
    lora_files.write(tmp_path / "lcm\x1b[2J.safetensors", factors)
    escaped = sdrt_main("generate", "a star", "--lora", "lcm\x1b[2J.safetensors", *quick, "-o", "w.png")
    assert "\x1b" not in escaped.err and "Note: lcm\\x1b[2J.safetensors is a LoRA of LCM" in escaped.err
    silent = sdrt_main("generate", "a star", "--lora", "plain.safetensors", *quick, "-o", "y.png")
    assert "Note: " not in silent.err
    np.testing.assert_array_equal(Image.open("x.png"), Image.open("y.png"))
    followed = sdrt_main(
        "generate", "a star", "--lora", "lcm-lora.safetensors", "--sampler", "lcm", "--guidance", "1",
        "--steps", "4", "-o", "z.png",
    )  # fmt: skip
    assert followed.code == 0 and "Note: " not in followed.err
