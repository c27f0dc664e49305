"""A report made by hand, with a peer of every fate and hostile names, for tests of what is made of it."""

from __future__ import annotations

import numpy as np
from bench_scenario import scenario

from sdrt_bench.peers import Kept, Work
from sdrt_bench.report import (
    Figure,
    GraphFidelity,
    PeerReport,
    Quality,
    Report,
    ScalingPoint,
    Speed,
    WholeProcess,
)
from sdrt_bench.scenario import FidelitySettings, PeerSettings

HOSTILE = '<script>alert(1)</script> | `a` [b](c) & "d" ]]> \x01'
NAME = f"{HOSTILE}, seed 1, ddim"


def figure(median, spread=0.1, count=5):
    low, high = median * (1 - spread), median * (1 + spread)
    return Figure(median=median, least=low, most=high * 1.2, p90=high, p99=high * 1.1, count=count)


def speed(median=0.2, **changes):
    stages = {
        "start": figure(1.0),
        "load": figure(0.5),
        "first": figure(0.4),
        "picture": figure(median),
        "text": figure(median * 0.1),
        "evaluation": figure(median * 0.3),
        "evaluations": 2,
        "vae": figure(median * 0.2),
        "rest": figure(median * 0.1),
        "iterations_per_second": figure(3 / median),
        "pictures_per_second": figure(1 / median),
        "peak_mb": 300.0,
    }
    return Speed(**{**stages, **changes})


def quality(psnr=60.0, ssim=0.999):
    curve = (0.0, 1e-6 if psnr is None else 1e-3)
    return Quality(psnr={NAME: psnr}, ssim={NAME: ssim}, divergence={"ddim": curve}, scores={"shape": 0.9})


def peers():
    graph = GraphFidelity(relative_l2=1e-6, max_abs=1e-5, cosine=1.0, tolerance=1e-5)
    return {
        "right": PeerReport(speed=speed(0.4), quality=quality(None, 1.0), teraflops=0.05, of_peak=0.25),
        "ours": PeerReport(
            speed=speed(0.2),
            quality=quality(),
            graphs={"unet": graph},
            teraflops=0.1,
            of_peak=0.5,
            ratios={"picture": figure(2.0), "evaluation": figure(2.5)},
        ),
        "worse": PeerReport(
            speed=speed(0.1),
            quality=quality(20.0, 0.5),
            ratios={"picture": figure(4.0)},
            missed=("PSNR 20.0 dB, below 50",),
        ),
        "gone": PeerReport(absent="No module named 'gone'"),
        "silent": PeerReport(
            speed=speed(
                0.3,
                text=None,
                evaluation=None,
                evaluations=None,
                vae=None,
                rest=None,
                iterations_per_second=None,
            ),
            ratios={"picture": figure(1.3)},
            versions={"silent": "1.2.3"},
            notes=("it has no ddim; euler instead",),
            uncompared="its noise is its own",
            convert_s=12.0,
        ),
        "broken": PeerReport(failed=f"RuntimeError: {HOSTILE}"),
    }


def report(**changes):
    """Of a scenario whose prompt and title are hostile."""
    settings = {
        "right": PeerSettings(runner="diffusers"),
        "ours": PeerSettings(runner="sdrt", least_psnr=50.0, least_ssim=0.99),
        "worse": PeerSettings(runner="sdrt", precision="fp16", least_psnr=50.0),
        "gone": PeerSettings(runner="optimum", least_psnr=50.0),
        "silent": PeerSettings(runner="openvino-genai"),
        "broken": PeerSettings(runner="sdrt"),
    }
    asked = scenario(
        title=HOSTILE, prompt=HOSTILE, peers=settings, fidelity=FidelitySettings(prompts=(HOSTILE,))
    )
    fields = {
        "command": "sdrt bench '```' <b>",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"processor": "A <b>CPU</b>", "cores": 2, "packages": {"numpy": "2.4", "torch": None}},
        "load_average": (0.1, 0.2),
        "peak_teraflops": {"numpy fp32": 0.2},
        "scenario": asked,
        "bandwidth": 2e10,
        "work": {
            "unet": Work(operations=3e9, traffic=1e8),
            "vae_decoder": Work(operations=2e9, traffic=2e8),
        },
        "peers": peers(),
        "whole_process": WholeProcess(
            sdrt_command="sdrt generate",
            diffusers_script=HOSTILE,
            sdrt=figure(0.8),
            diffusers=figure(8.0),
            ratio=figure(10.0),
            psnr=None,
        ),
        "scaling": tuple(
            ScalingPoint(peer=peer, axis="batch", value=batch, seconds=figure(0.1 * batch))
            for peer in ("right", "ours")
            for batch in (1, 2, 4)
        ),
    }
    return Report(**{**fields, **changes})


def pictures():
    right = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), np.uint8)
    latents = np.zeros((2, 4, 8, 8))
    return {
        name: {(NAME, "ddim"): Kept(pixels=pixels, latents=latents)}
        for name, pixels in (("right", right), ("ours", right ^ 1), ("worse", 255 - right))
    }
