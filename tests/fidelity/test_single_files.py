"""Checkpoints in one file, exported and run: the picture that diffusers makes of the same weights."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from sdrt.pipeline import Pipeline

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

import original_layout  # noqa: E402
import tiny_models  # noqa: E402


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a local file needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("family", "dtype", "name"),
    [
        ("sd1", torch.float32, "model.safetensors"),
        ("sd2", torch.float16, "model.ckpt"),
        ("sdxl", torch.bfloat16, "model.safetensors"),
    ],
)
def test_picture_is_that_of_diffusers(family, dtype, name, tmp_path, no_network):
    import sdrt_export

    folder = tiny_models.write(family, tmp_path / "folder")
    components = original_layout.load_components(family, folder)
    path = original_layout.write(family, components, tmp_path / name, dtype)
    bundle = sdrt_export.export(str(path), tmp_path / "bundle", config=folder, allow_pickle=True)
    settings = {"width": 64, "height": 72, "guidance_scale": 4.0}
    with Pipeline.load(bundle) as pipeline:
        (ours,) = pipeline.generate("a red circle", steps=4, seed=3, **settings)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, safety_checker=None)
    for component in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if getattr(pipeline, component, None) is not None:
            getattr(pipeline, component).to(dtype).float()  # the same rounding
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(3)
    images = pipeline(
        "a red circle", num_inference_steps=4, generator=generator, output_type="np", **settings
    )
    error = np.mean((ours.pixels.astype(float) - np.round(images.images[0] * 255)) ** 2)
    assert ours.pixels.std() > 5
    assert 10 * np.log10(255**2 / max(error, 1e-9)) >= 50.0
