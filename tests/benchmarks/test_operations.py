"""Floating-point operations, against torch's own count and by hand."""

from __future__ import annotations

import pytest

from sdrt import manifest as manifests
from sdrt.bundle import DEMO
from sdrt_bench.operations import count_work, input_shapes, operations_of
from sdrt_bench.peers import Job

JOB = Job(prompt="", seed=0, width=64, height=64, steps=1, sampler="ddim", guidance_scale=2.0)


@pytest.mark.parametrize(
    ("operator", "inputs", "output", "expected"),
    [
        ("MatMul", [(2, 3, 4), (4, 5)], (2, 3, 5), 2 * 2 * 3 * 5 * 4),
        ("Gemm", [(3, 4), (5, 4), (5,)], (3, 5), 2 * 3 * 5 * 4),
        ("Conv", [(1, 4, 8, 8), (6, 4, 3, 3)], (1, 6, 8, 8), 2 * 6 * 64 * 4 * 9),
        ("Conv", [(1, 4, 8, 8), (4, 1, 3, 3)], (1, 4, 8, 8), 2 * 4 * 64 * 9),
        (
            "Attention",
            [(2, 8, 10, 40), (2, 8, 77, 40), (2, 8, 77, 40)],
            (2, 8, 10, 40),
            4 * 16 * 10 * 77 * 40,
        ),
        ("Add", [(4,), (4,)], (4,), 0),
    ],
)
def test_by_hand(operator, inputs, output, expected):
    assert operations_of(operator, inputs, output) == expected


def test_unet_counts_as_torch_does():
    """Within 2 %: torch's counter knows matrix products, convolutions and attention."""
    torch = pytest.importorskip("torch")
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    from sdrt_export.sources import DEMO_FOLDER

    unet = UNet2DConditionModel.from_pretrained(DEMO_FOLDER / "unet", torch_dtype=torch.float32)
    width = unet.config.cross_attention_dim
    # the kernel for CPUs of fused attention is not one that the counter knows
    math = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with math, FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(torch.zeros(2, 4, 8, 8), torch.tensor(1), torch.zeros(2, 77, width))
    manifest = manifests.read(DEMO / manifests.FILE_NAME)
    shapes = input_shapes(manifest, "unet", JOB)
    assert shapes["sample"] == (2, 4, 8, 8) and shapes["encoder_hidden_states"] == (2, 77, width)
    work = count_work(DEMO / manifest.graphs["unet"].path, shapes)
    assert work.operations == pytest.approx(counter.get_total_flops(), rel=0.02)
    weights = (DEMO / manifest.graphs["unet"].path).with_name("model.onnx.data").stat().st_size
    assert work.traffic > 2 * weights, "stored in FP16, counted in FP32, and activations on top"
