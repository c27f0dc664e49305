"""Pictures against the reference's, and the gates."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from bench_scenario import FakeSession, scenario

from sdrt.bundle import DEMO
from sdrt_bench.peers import Kept
from sdrt_bench.quality import compare, graph_fidelity, make_pictures, missed_gates, picture_jobs
from sdrt_bench.report import GraphFidelity
from sdrt_bench.scenario import FidelitySettings, PeerSettings

PIXELS = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), np.uint8)
LATENTS = np.random.default_rng(1).normal(size=(3, 4, 4, 4))
KEY = ("a, seed 1, ddim", "ddim")


def quality_of(pixels, latents=LATENTS):
    right = {KEY: Kept(pixels=PIXELS, latents=LATENTS)}
    return compare({KEY: Kept(pixels=pixels, latents=latents)}, right, {"shape": 1.0})


def test_prompts_times_seeds_times_samplers(tmp_path):
    settings = FidelitySettings(prompts=("a", "b"), seeds=(1, 2), samplers=("ddim", "euler"))
    names = [name for name, _ in picture_jobs(scenario(fidelity=settings))]
    assert len(set(names)) == 8
    log = []
    made = {"pixels": PIXELS, "latents": LATENTS}
    found, uncompared = make_pictures(scenario(fidelity=settings), FakeSession(log, made=made), tmp_path)
    assert list(found) == names and uncompared == {}
    assert {(job.prompt, job.seed, job.sampler) for job in log} == {
        (a, b, c) for a in "ab" for b in (1, 2) for c in ("ddim", "euler")
    }


def test_pictures_of_another_sampler_are_not_compared(tmp_path):
    settings = FidelitySettings(prompts=("a", "b"), samplers=("ddim", "euler"))
    made = {"pixels": PIXELS, "latents": LATENTS}
    session = FakeSession([], made=made, says={"euler": {"uncompared": "it has no euler"}})
    found, uncompared = make_pictures(scenario(fidelity=settings), session, tmp_path)
    assert uncompared == {"euler": "it has no euler"}
    assert {sampler for _, sampler in found} == {"ddim"} and len(found) == 2


def test_equal():
    found = quality_of(PIXELS)
    assert found.psnr == {KEY[0]: None} and found.least_psnr == float("inf")
    assert found.least_ssim == pytest.approx(1)
    assert found.divergence == {"ddim": (0, 0, 0)}


def test_different():
    found = quality_of(PIXELS + np.uint8(1), LATENTS + np.array([0.0, 1.0, 2.0])[:, None, None, None])
    assert found.least_psnr == pytest.approx(48.13, abs=0.01)
    assert found.divergence["ddim"] == pytest.approx((0, 1, 2))


@pytest.mark.parametrize(
    ("gates", "missed"),
    [
        ({}, ()),
        ({"least_psnr": 48.0}, ()),
        ({"least_psnr": 49.0}, ("PSNR 48.1 dB, below 49",)),
        ({"least_ssim": 1.0}, ("below 1",)),
    ],
)
def test_gates_of_pictures(gates, missed):
    found = missed_gates(PeerSettings(runner="sdrt", **gates), quality_of(PIXELS + np.uint8(1)), {})
    assert len(found) == len(missed)
    assert all(said in gate for said, gate in zip(missed, found, strict=True))


@pytest.mark.parametrize(
    ("scores", "missed"),
    [
        ({"colour_shape_background": 0.9}, ()),
        ({"colour_shape_background": 0.85}, ("85% of its pictures are right, below 90%",)),
        ({}, ("its pictures were not judged; set fidelity.scored",)),
    ],
)
def test_gate_of_what_pictures_show(scores, missed):
    quality = msgspec.structs.replace(quality_of(PIXELS), scores=scores)
    assert missed_gates(PeerSettings(runner="sdrt", least_right=0.9), quality, {}) == missed


def test_a_gate_that_was_not_measured_is_missed():
    assert missed_gates(PeerSettings(runner="sdrt", least_psnr=1.0), None, {}) == (
        "its pictures were not compared",
    )
    assert missed_gates(PeerSettings(runner="sdrt"), None, {}) == ()


def test_nan_misses_its_gate():
    graph = GraphFidelity(relative_l2=float("nan"), max_abs=0.0, cosine=1.0, tolerance=1e-4)
    assert missed_gates(PeerSettings(runner="sdrt"), None, {"unet": graph})


def test_gates_of_graphs():
    graphs = {
        "unet": GraphFidelity(relative_l2=2e-4, max_abs=0.1, cosine=1.0, tolerance=1e-4),
        "vae_decoder": GraphFidelity(relative_l2=2e-4, max_abs=0.1, cosine=1.0, tolerance=1e-3),
    }
    (missed,) = missed_gates(PeerSettings(runner="sdrt"), None, graphs)
    assert missed == "unet differs from PyTorch by 0.0002, more than 0.0001"


def test_the_manifest_tells_of_the_graphs():
    found = graph_fidelity(DEMO)
    assert {"text_encoder", "unet", "vae_decoder"} <= set(found)
    assert all(0 < one.relative_l2 < 1e-2 and one.cosine > 0.999 for one in found.values())
