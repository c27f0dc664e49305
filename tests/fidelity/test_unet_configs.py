"""Configs of the U-Net beyond those of the published families: pruned, projected, with other blocks."""

from __future__ import annotations

import json

import pytest

from sdrt.errors import ExportError
from sdrt.pipeline import Pipeline

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

import tiny_models  # noqa: E402
from reference import open_pipeline, picture, psnr  # noqa: E402

# tiny-sd and BK-SDM-Small: no block in the middle, and transformers down to the lowest level
PRUNED = {
    "mid_block_type": None,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
}
OPTIONS = {
    "pruned": PRUNED,
    "a middle without transformer": {"mid_block_type": "UNetMidBlock2D"},
    "simple cross attention": {
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "resnet_time_scale_shift": "scale_shift",
        "only_cross_attention": True,
    },
    "centred samples": {"center_input_sample": True},
    "activations of the embedding": {"time_embedding_act_fn": "silu", "timestep_post_act": "silu"},
    "a projection of the text": {"encoder_hid_dim": 32, "cross_attention_dim": 48},
    "text in the time embedding": {"addition_embed_type": "text", "addition_embed_type_num_heads": 4},
    "widths by level": {
        "cross_attention_dim": [32, 99],
        "mid_block_type": "UNetMidBlock2D",
    },
    "layers by level": {"layers_per_block": [1, 2]},
    "transformers by layer": {
        "transformer_layers_per_block": [[1, 2], 1],
        "reverse_transformer_layers_per_block": [1, [2, 1, 1]],
        "layers_per_block": 2,
    },
    "Fourier features of the timestep": {"time_embedding_type": "fourier", "time_embedding_dim": 64},
    "kernels and scales": {"conv_in_kernel": 1, "conv_out_kernel": 1, "mid_block_scale_factor": 2.0},
}


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_graph_computes_what_the_model_does(options, size):
    from sdrt_export.modules import UNetGraph

    pipeline = tiny_models.FAMILIES["sd1"](**OPTIONS[options])
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, *size, generator=generator)
    prompt = torch.randn(2, 77, 32, generator=generator)
    timestep = torch.tensor([3.0, 700.0])
    with torch.inference_mode():
        (expected,) = UNetGraph.reference(pipeline.unet, sample, timestep, prompt)
        (found,) = UNetGraph(pipeline.unet)(sample, timestep, prompt)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * expected.abs().max().item())
    assert expected.std() > 0.01


@pytest.mark.parametrize(
    ("options", "deep_cache"),
    [
        ("pruned", True),
        ("a projection of the text", True),
        pytest.param("text in the time embedding", True, marks=pytest.mark.slow),
        *(
            pytest.param(name, False, marks=pytest.mark.slow)
            for name in OPTIONS
            if name not in ("pruned", "a projection of the text", "text in the time embedding")
        ),
    ],
)
def test_picture_is_that_of_diffusers(options, deep_cache, tmp_path):
    import sdrt_export

    folder = tiny_models.write("sd1", tmp_path / "folder", **OPTIONS[options])
    bundle = sdrt_export.export(str(folder), tmp_path / "bundle", deep_cache=deep_cache)
    settings = {"width": 64, "height": 80, "steps": 3, "seed": 3, "guidance_scale": 4.0, "sampler": "ddim"}
    with Pipeline.load(bundle) as pipeline:
        (ours,) = pipeline.generate("a red circle", **settings)
        (other,) = pipeline.generate("a blue cross", **settings)
        if deep_cache:
            pipeline.generate("a red circle", **settings, deep_cache=2)
    theirs = open_pipeline(folder)
    theirs.scheduler = diffusers.DDIMScheduler.from_config(theirs.scheduler.config, clip_sample=False)
    assert psnr(ours.pixels, picture(theirs, ours.request)) >= 50.0
    assert psnr(ours.pixels, other.pixels) < 50.0


@pytest.mark.parametrize(("size", "expected"), [([8, 16], (64, 128)), (16, (128, 128)), (None, (512, 512))])
def test_default_size(size, expected, tmp_path):
    from sdrt_export.sources import open_source

    folder = tiny_models.write("sd1", tmp_path, sample_size=size)
    defaults = open_source(str(folder)).configs.defaults
    assert (defaults.height, defaults.width) == expected


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cross_attention_dim": [32, 48]}, r"cross_attention_dim \[32, 48\] .* the same width"),
        ({"encoder_hid_dim": 32, "encoder_hid_dim_type": "image_proj"}, "'image_proj' .* text_proj"),
        ({"encoder_hid_dim": 24}, "expects text of width 24, the text encoder gives 32"),
        ({"sample_size": "large"}, "sample_size 'large'"),
        ({"up_block_types": ["ResnetUpsampleBlock2D", "CrossAttnUpBlock2D"]}, "'ResnetUpsampleBlock2D'"),
        ({"mid_block_type": "UNetMidBlock3D"}, "mid_block_type 'UNetMidBlock3D' .* UNetMidBlock2D, "),
        ({"num_class_embeds": 3}, "num_class_embeds 3 .* not supported"),
    ],
)
def test_what_is_not_supported_is_named(changes, says, tmp_path):
    from sdrt_export.sources import open_source

    path = tiny_models.write("sd1", tmp_path) / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ExportError, match=says):
        open_source(str(tmp_path))
