"""Embeddings through diffusers' `load_textual_inversion` and through sdrt: same tokens, same picture."""

from __future__ import annotations

import pytest

from sdrt.pipeline import Pipeline
from sdrt.prompt import Segment

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from reference import open_pipeline, picture, psnr  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

# diffusers looks for the word of several vectors in the prompt as it is written, so it must be in lower case
PROMPTS = ["a <thing> on blue", "<thing><other>, red <thing>s", "a red circle", "x " * 40 + "<thing>"]


def like(table, count, seed):
    """Vectors such as the table has, in FP16 numbers: the packaged bundle keeps its own so."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(count, table.shape[1], generator=generator) * table.std()).half()


def tokens(pipeline, tokenizer, prompt):
    prompt = pipeline.maybe_convert_prompt(prompt, tokenizer)
    return tokenizer(prompt, padding="max_length", max_length=77, truncation=True)["input_ids"]


@pytest.fixture(scope="module")
def demo_files(demo_checkpoint, tmp_path_factory):
    """A file in each layout, and diffusers' pipeline that has loaded them."""
    folder = tmp_path_factory.mktemp("embeddings")
    theirs = open_pipeline(demo_checkpoint)
    table = theirs.text_encoder.get_input_embeddings().weight.data
    save_file({"<thing>": like(table, 3, 1)}, folder / "learned_embeds.safetensors")
    content = {"string_to_param": {"*": like(table, 2, 2)}, "name": "<other>", "string_to_token": {"*": 265}}
    torch.save(content, folder / "other.pt")
    torch.save({"plain": like(table, 1, 3)[0]}, folder / "learned_embeds.bin")
    files = [folder / name for name in ("learned_embeds.safetensors", "other.pt", "learned_embeds.bin")]
    for file in files:
        theirs.load_textual_inversion(str(folder), weight_name=file.name)
    return files, theirs


@pytest.mark.parametrize("prompt", [*PROMPTS, "Plain <thing>", "a <other> <other> <other>"])
def test_tokens_equal_diffusers(prompt, demo_files):
    files, theirs = demo_files
    with Pipeline.load(embeddings=files, allow_pickle=True) as pipeline:
        (encoder,) = pipeline._conditioner._encoders
        found = encoder.chunks((Segment(prompt),))[0].ids
    assert list(found) == tokens(theirs, theirs.tokenizer, prompt)


@pytest.mark.parametrize("prompt", PROMPTS[:3])
def test_pictures_equal_diffusers(prompt, demo_files):
    files, theirs = demo_files
    with Pipeline.load(embeddings=files, allow_pickle=True) as pipeline:
        settings = {"negative_prompt": "plain", "sampler": "ddim", "steps": 6, "seed": 4}
        (ours,) = pipeline.generate(prompt, **settings)
    with Pipeline.load() as without:
        (other,) = without.generate(prompt, **settings)
    theirs.scheduler = diffusers.DDIMScheduler.from_config(theirs.scheduler.config)
    assert psnr(ours.pixels, picture(theirs, ours.request)) >= 50.0
    if "<thing>" in prompt:
        assert psnr(ours.pixels, other.pixels) < 40.0


@pytest.fixture(scope="module")
def xl(exported, tmp_path_factory):
    """The bundle of a small Stable Diffusion XL, an embedding for its encoders, and diffusers with it."""
    checkpoint, bundle = exported("sdxl")
    folder = tmp_path_factory.mktemp("embedding")
    theirs = open_pipeline(checkpoint)
    encoders = {"clip_l": theirs.text_encoder, "clip_g": theirs.text_encoder_2}
    vectors = {
        name: like(encoder.get_input_embeddings().weight.data, 2, seed).float()
        for seed, (name, encoder) in enumerate(encoders.items())
    }
    save_file(vectors, folder / "thing.safetensors")
    for name, encoder, tokenizer in (
        ("clip_l", theirs.text_encoder, theirs.tokenizer),
        ("clip_g", theirs.text_encoder_2, theirs.tokenizer_2),
    ):
        one = {"<thing>": vectors[name]}
        theirs.load_textual_inversion(one, text_encoder=encoder, tokenizer=tokenizer)
    return bundle, folder / "thing.safetensors", theirs


@pytest.mark.parametrize("prompt", ["a <thing>", "<thing> and <thing>, red"])
def test_xl_equals_diffusers(prompt, xl):
    bundle, file, theirs = xl
    with Pipeline.load(bundle, embeddings=[(file, "<thing>")]) as pipeline:
        for encoder, tokenizer in zip(
            pipeline._conditioner._encoders, (theirs.tokenizer, theirs.tokenizer_2), strict=True
        ):
            assert list(encoder.chunks((Segment(prompt),))[0].ids) == tokens(theirs, tokenizer, prompt)
        settings = {"width": 64, "height": 64, "steps": 3, "seed": 3, "guidance_scale": 4.0}
        (ours,) = pipeline.generate(prompt, **settings)
    assert ours.pixels.std() > 5
    assert psnr(ours.pixels, picture(theirs, ours.request)) >= 50.0
