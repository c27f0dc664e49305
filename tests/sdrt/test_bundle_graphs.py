"""A manifest that says other things of its graphs than onnxruntime finds in them."""

from __future__ import annotations

import pytest


def rename_output(fields):
    outputs = fields["graphs"]["unet"]["outputs"]
    outputs["x"] = outputs.pop("out_sample")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rename_output, "unet/onnxruntime.onnx"),
        (lambda f: f["graphs"]["unet"]["inputs"]["timestep"].update(dtype="int64"), "unet/onnxruntime.onnx"),
        (lambda f: f["graphs"]["text_encoder"]["outputs"].pop("pooler_output"), "text_encoder/model.onnx"),
        (lambda f: f["graphs"]["vae_decoder"]["inputs"].pop("latent_sample"), "vae_decoder/onnxruntime.onnx"),
    ],
)
def test_other_inputs(bundle, refused, edit_manifest, change, says):
    edit_manifest(change)
    refused("generate", "a cat", "-m", str(bundle), says=("does not match the manifest", says))


@pytest.mark.parametrize("name", ["unet", "text_encoder", "vae_decoder"])
def test_missing_graph(bundle, refused, edit_manifest, name):
    edit_manifest(lambda fields: fields["graphs"].pop(name))
    refused("generate", "a cat", "-m", str(bundle), says=(f"no {name} graph", "export the bundle again"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda fields: fields["text"][0].update(max_length=154), "max_length"),
        (lambda fields: fields["vae"].update(latent_channels=8), "latent_channels"),
        (lambda fields: fields["text"][0].update(hidden_states="hidden_states.1"), "has no output hidden"),
        (lambda fields: fields["text"][0].update(pooled="pooler_output"), "text_embeds"),
        (lambda fields: fields["conditioning"].update(time_ids="sizes"), "time_ids"),
        (lambda fields: fields.update(text=[]), "text"),
    ],
)
def test_settings_that_do_not_fit_the_graphs(
    bundle, refused, edit_manifest, graphs_stay_closed, change, says
):
    edit_manifest(change)
    refused("generate", "a cat", "-m", str(bundle), says=(str(bundle), says, "export the bundle again"))


def test_bundle_from_elsewhere_makes_the_same_picture(bundle, run_sdrt, tmp_path):
    for where, name in ((("-m", str(bundle)), "copy.png"), ((), "demo.png")):
        result = run_sdrt("generate", "a cat", *where, "--seed", "1", "--steps", "2", "-o", name)
        assert (result.code, result.err) == (0, "")
        assert result.out == f"{name}\n"
    assert (tmp_path / "copy.png").read_bytes() == (tmp_path / "demo.png").read_bytes()
