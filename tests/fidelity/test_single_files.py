"""Checkpoints in one file, exported and run: the picture that diffusers makes of the same weights."""

from __future__ import annotations

import hashlib
import socket

import pytest

from sdrt.pipeline import Pipeline

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import original_layout  # noqa: E402
import tiny_models  # noqa: E402
from reference import open_pipeline, picture, psnr, run  # noqa: E402


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a local file needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("family", "dtype", "name"),
    [
        pytest.param("sd1", torch.float32, "model.safetensors", marks=pytest.mark.slow),
        pytest.param("sd2", torch.float16, "model.ckpt", marks=pytest.mark.slow),
        ("sdxl", torch.bfloat16, "model.safetensors"),
    ],
)
def test_picture_is_that_of_diffusers(family, dtype, name, tmp_path, no_network):
    import sdrt_export

    folder = tiny_models.write(family, tmp_path / "folder")
    components = original_layout.load_components(family, folder)
    path = original_layout.write(family, components, tmp_path / name, dtype)
    bundle = sdrt_export.export(str(path), tmp_path / "bundle", config=folder, allow_pickle=True)
    settings = {"width": 64, "height": 72, "steps": 4, "seed": 3, "guidance_scale": 4.0}
    with Pipeline.load(bundle) as pipeline:
        assert pipeline.manifest.made_by.file_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        (ours,) = pipeline.generate("a red circle", **settings)
    theirs = open_pipeline(folder)
    for component in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if getattr(theirs, component, None) is not None:
            getattr(theirs, component).to(dtype).float()  # the same rounding
    assert ours.pixels.std() > 5
    assert psnr(ours.pixels, picture(theirs, ours.request)) >= 50.0


@pytest.mark.slow
def test_wrapped_file_without_a_vae_that_says_what_it_predicts(tmp_path, no_network):
    """Keys of a trainer, the VAE of a folder, velocity and zero terminal SNR by empty tensors, FP8."""
    import diffusers
    from safetensors.torch import load_file, save_file

    import sdrt_export

    folder = tiny_models.write("sd1", tmp_path / "folder")
    dtype = torch.float8_e4m3fn
    components = original_layout.load_components("sd1", folder)
    path = original_layout.write("sd1", components, tmp_path / "model.safetensors", dtype)
    state = {f"state_dict.{key}": value for key, value in load_file(path).items() if "first_stage" not in key}
    save_file(state | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, path)
    bundle = sdrt_export.export(str(path), tmp_path / "bundle", config=folder, vae=folder)
    settings = {"width": 64, "height": 72, "steps": 4, "seed": 3, "guidance_scale": 4.0}
    with Pipeline.load(bundle) as pipeline:
        (ours,) = pipeline.generate("a red circle", **settings)
    assert ours.request.sampler == "ddim"
    theirs = open_pipeline(folder)
    for component in ("unet", "text_encoder"):
        getattr(theirs, component).to(dtype).float()  # the same rounding
    theirs.scheduler = diffusers.DDIMScheduler.from_config(
        theirs.scheduler.config,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    request = ours.request
    expected = run(
        theirs,
        request.prompt,
        seed=request.seed,
        num_inference_steps=4,
        guidance_scale=4.0,
        width=64,
        height=72,
    )
    assert ours.pixels.std() > 5
    assert psnr(ours.pixels, expected) >= 50.0
