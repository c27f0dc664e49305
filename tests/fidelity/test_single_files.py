"""Checkpoints in one file: read as diffusers reads them, exported, and run."""

from __future__ import annotations

import socket
from functools import cache

import numpy as np
import pytest

from sdrt.errors import ExportError, InputError, SdrtError
from sdrt.pipeline import Pipeline

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

import tiny_models  # noqa: E402
from original_layout import original_tensors, write_original  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from sdrt_export.architectures import ARCHITECTURES, REFINER  # noqa: E402
from sdrt_export.original import open_single_file  # noqa: E402
from sdrt_export.original.detect import FIRST, detect  # noqa: E402
from sdrt_export.original.places import (  # noqa: E402
    clip_places,
    open_clip_places,
    unet_places,
    vae_places,
)
from sdrt_export.sources import open_source  # noqa: E402

FAMILIES = {
    "sd1": diffusers.StableDiffusionPipeline,
    "sd1-inpainting": diffusers.StableDiffusionInpaintPipeline,
    "sd1-edit": diffusers.StableDiffusionInstructPix2PixPipeline,
    "sd2": diffusers.StableDiffusionPipeline,
    "sdxl": diffusers.StableDiffusionXLPipeline,
    "sdxl-refiner": diffusers.StableDiffusionXLImg2ImgPipeline,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The diffusers folder of a family, and the same in one file."""

    @cache
    def write(family):
        folder = tmp_path_factory.mktemp(family) / "folder"
        tiny_models.write(family, folder)
        return folder, write_original(folder, family, folder.parent / "model.safetensors")

    return write


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a local file needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("family", FAMILIES)
def test_file_is_one_that_diffusers_reads(family, written):
    """So that the other tests read what is really out there: the layout comes from our own table of names."""
    folder, path = written(family)
    theirs = FAMILIES[family].from_single_file(path, config=str(folder), local_files_only=True)
    ours = FAMILIES[family].from_pretrained(folder)
    for component in ("unet", "vae", "text_encoder", "text_encoder_2"):
        expected = getattr(ours, component, None)
        if expected is not None:
            found = getattr(theirs, component).state_dict()
            for name, value in expected.state_dict().items():
                torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=f"{component} {name}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_those_of_the_folder(family, dtype, written, tmp_path, no_network):
    folder, _ = written(family)
    path = write_original(folder, family, tmp_path / "m.safetensors", dtype)
    one, many = open_single_file(path, source="one", config=folder), open_source(str(folder))
    assert one.configs == many.configs and one.parameters == many.parameters
    for component in many.parameters:
        for name in many.build(component).state_dict():
            value = one.weights(component)[name]
            assert value.dtype == dtype
            assert torch.equal(value, many.weights(component)[name].to(dtype)), name


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_same_picture_as_diffusers(family, written, tmp_path, no_network):
    import sdrt_export

    folder, path = written(family)
    bundle = sdrt_export.export(str(path), tmp_path / "b", config=folder)
    with Pipeline.load(bundle) as pipeline:
        (ours,) = pipeline.generate("a red circle", width=64, height=72, steps=4, seed=3, guidance_scale=4.0)
    pipeline = FAMILIES[family].from_single_file(path, config=str(folder), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(3)
    settings = {"width": 64, "height": 72, "num_inference_steps": 4, "guidance_scale": 4.0}
    theirs = pipeline("a red circle", generator=generator, output_type="np", **settings).images[0] * 255
    error = np.mean((ours.pixels.astype(float) - np.round(theirs)) ** 2)
    assert 10 * np.log10(255**2 / max(error, 1e-9)) >= 50.0


class Shapes:
    """An original file of which only keys and shapes exist."""

    def __init__(self, tensors):
        self._tensors = tensors

    def __iter__(self):
        return iter(self._tensors)

    def __contains__(self, key):
        return key in self._tensors

    def __getitem__(self, key):
        return torch.full(self._tensors[key], 0.1).cumsum(0)

    def shape(self, key):
        return self._tensors[key]


# Counted in the published files; of the second, without the 24th layer that nothing reads.
FULL_SIZE = {
    "sd15": ("text_encoder cond_stage_model.transformer.", 686 + 248 + 196),
    "sd21": ("text_encoder cond_stage_model.model.", 686 + 248 + 4 + 23 * 12),
    "sdxl": (
        "text_encoder conditioner.embedders.0.transformer. text_encoder_2 conditioner.embedders.1.model.",
        1680 + 248 + 196 + 5 + 32 * 12,
    ),
}


def full_size(architecture, text):
    """Places of all parameters of an architecture, and the shapes that its file has."""
    prefixes = dict(zip(*[iter(text.split())] * 2, strict=True))
    places, shapes = {}, {}
    with torch.device("meta"):
        models = {component: architecture.build(component) for component in architecture.options}
    for component, model in models.items():
        state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        if component in prefixes:
            prefix = prefixes[component]
            own = (open_clip_places if prefix.endswith(".model.") else clip_places)(state, prefix)
        else:
            own = {"unet": unet_places, "vae": vae_places}[component](state)
        assert list(own) == list(state)
        places |= {(component, name): place for name, place in own.items()}
        for name, place in own.items():
            shape = state[name]
            if place.third is not None:
                shape = (3 * shape[0], *shape[1:])
            assert shapes.setdefault(place.key, shape) == shape
    return places, shapes


@pytest.mark.parametrize("name", FULL_SIZE)
def test_every_key_has_its_parameter_and_back(name):
    """No two parameters share a place, but for the thirds of what OpenCLIP keeps in one tensor."""
    text, keys = FULL_SIZE[name]
    places, shapes = full_size(ARCHITECTURES[name], text)
    assert len(set(places.values())) == len(places)
    assert len(shapes) == keys
    thirds = [place for place in places.values() if place.third is not None]
    assert len(shapes) == len(places) - len(thirds) * 2 // 3


@pytest.mark.parametrize("name", FULL_SIZE)
def test_diffusers_has_the_same_names(name):
    from diffusers.loaders import single_file_utils as theirs

    text, _ = FULL_SIZE[name]
    places, _ = full_size(ARCHITECTURES[name], text)
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        vae = architecture.build("vae")
    tags = {place.key: parameter for (component, parameter), place in places.items() if component == "vae"}
    # diffusers turns the attention's kernels into matrices, for which it must have something with a shape
    numbered = {key: torch.full((1, 1, 1, 1), float(k)) for k, key in enumerate(tags)}
    for parameter, value in theirs.convert_ldm_vae_checkpoint(numbered, dict(vae.config)).items():
        assert list(tags.values())[int(value.flatten()[0])] == parameter


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("sd15", {}, ("stable-diffusion-1", None, "epsilon", 512)),
        ("sd15", {FIRST: (320, 9, 3, 3)}, ("stable-diffusion-1", "inpainting", "epsilon", 512)),
        ("sd15", {FIRST: (320, 8, 3, 3)}, ("stable-diffusion-1", "edit", "epsilon", 512)),
        ("sd21", {}, ("stable-diffusion-2", None, "v_prediction", 768)),
        ("sdxl", {}, ("stable-diffusion-xl", None, "epsilon", 1024)),
        ("sdxl", {"v_pred": (), "ztsnr": ()}, ("stable-diffusion-xl", None, "v_prediction", 1024)),
        ("sdxl", {FIRST: (320, 9, 3, 3)}, ("stable-diffusion-xl", "inpainting", "epsilon", 1024)),
    ],
)
def test_family_is_recognised(name, changes, expected):
    from sdrt_export.original import single_file

    _, shapes = full_size(ARCHITECTURES[name], FULL_SIZE[name][0])
    configs, tokenizers = single_file._detected(Shapes(shapes | changes), "file")
    family, picture, prediction, side = expected
    assert (configs.family, configs.conditioning.picture) == (family, picture)
    assert configs.schedule.prediction_type == prediction
    assert configs.schedule.rescale_betas_zero_snr == ("ztsnr" in changes)
    assert configs.defaults.width == side
    assert [len(tokenizer) for tokenizer in tokenizers.values()] == [49408] * len(tokenizers)
    pads = {"sd15": [49407], "sd21": [0], "sdxl": [49407, 0]}[name]
    assert [text.pad_token_id for text in configs.text] == pads


def test_base_of_the_second_is_told_by_its_biases():
    _, shapes = full_size(ARCHITECTURES["sd21"], FULL_SIZE["sd21"][0])

    class Flat(Shapes):
        def __getitem__(self, key):
            return torch.full(self.shape(key), 0.1)

    found = detect(Flat(shapes), "file")
    assert (found.scheduler["prediction_type"], found.unet["sample_size"]) == ("epsilon", 64)


def test_refiner_is_recognised():
    _, shapes = full_size(REFINER, "text_encoder_2 conditioner.embedders.0.model.")
    assert detect(Shapes(shapes), "file").architecture is REFINER


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"lora_unet_down_blocks_0_attentions_0_proj_in.alpha": ()}, "a LoRA; give it with --lora"),
        ({"emb_params": (1, 768)}, "an embedding; give it with --textual-inversion"),
        ({"first_stage_model.encoder.down.0.block.0.conv1.weight": (1,)}, "a VAE alone; give it with --vae"),
        ({"model.diffusion_model.joint_blocks.0.x": (1,)}, "Stable Diffusion 3, which sdrt does not support"),
        ({"double_blocks.0.img_attn.norm.key_norm.scale": (1,)}, "Flux"),
        ({"control_model.time_embed.0.weight": (1,)}, "a ControlNet"),
        ({"a": (1,), "b": (1,)}, "no checkpoint in the original layout"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)}, "no text encoder"),
    ],
)
def test_other_files_are_told(keys, words):
    with pytest.raises(ExportError, match=words):
        detect(Shapes(keys), "file")


def test_missing_and_additional_keys_are_named(written, tmp_path):
    folder, path = written("sd1")
    tensors = load_file(path)
    for change, words in (
        ({"first_stage_model.encoder.conv_in.bias": None}, r"encoder\.conv_in\.bias"),
        ({"model.diffusion_model.input_blocks.9.0.op.weight": torch.ones(1)}, r"input_blocks\.9\.0\.op"),
    ):
        changed = {key: value for key, value in (tensors | change).items() if value is not None}
        save_file(changed, tmp_path / "m.safetensors")
        with pytest.raises(ExportError, match=words):
            open_single_file(tmp_path / "m.safetensors", source="m", config=folder)


def test_ckpt_needs_permission(written, tmp_path):
    folder, path = written("sd1")
    for state in ({"state_dict": load_file(path), "global_step": 7}, load_file(path)):
        torch.save(state, tmp_path / "m.ckpt")
        with pytest.raises(InputError, match="--allow-pickle"):
            open_source(str(tmp_path / "m.ckpt"), config=folder)
        checkpoint = open_source(str(tmp_path / "m.ckpt"), config=folder, allow_pickle=True)
        expected = open_source(str(folder)).weights("unet")["conv_in.weight"]
        assert torch.equal(checkpoint.weights("unet")["conv_in.weight"], expected)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


@pytest.mark.parametrize("name", ["m.ckpt", "m.safetensors"])
@pytest.mark.parametrize("old", [True, False])
def test_nothing_in_a_pickle_is_run(name, old, tmp_path):
    torch.save(
        {"state_dict": {"a": torch.ones(1)}, "callbacks": Bomb(tmp_path / "ran")},
        tmp_path / name,
        _use_new_zipfile_serialization=not old,
    )
    with pytest.raises(SdrtError, match=r"pickle|tensors alone"):
        open_source(str(tmp_path / name), allow_pickle=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["file", "alone", "diffusers file", "folder", "pipeline"])
def test_another_vae(kind, written, tmp_path):
    folder, path = written("sd1")
    torch.manual_seed(9)
    other = tiny_models.write("sd2", tmp_path / "other")  # the same VAE with other numbers
    for file in other.glob("vae/*.safetensors"):
        save_file({name: value + 0.5 for name, value in load_file(file).items()}, file, {"format": "pt"})
    prefix = "first_stage_model."
    alone = {k.removeprefix(prefix): v for k, v in original_tensors(other, "sd2").items() if prefix in k}
    save_file(alone, tmp_path / "alone.safetensors")
    where = {
        "file": write_original(other, "sd2", tmp_path / "other.safetensors"),
        "alone": tmp_path / "alone.safetensors",
        "diffusers file": next(other.glob("vae/*.safetensors")),
        "folder": other / "vae",
        "pipeline": other,
    }[kind]
    changed = open_source(str(path), config=folder, vae=where)
    plain = open_source(str(path), config=folder)
    assert changed.fingerprint != plain.fingerprint
    name = "decoder.mid_block.attentions.0.to_q.weight"
    assert torch.equal(changed.weights("vae")[name], open_source(str(other)).weights("vae")[name])
    assert torch.equal(changed.weights("unet")["conv_in.weight"], plain.weights("unet")["conv_in.weight"])


def test_what_is_no_vae_is_refused(written, tmp_path):
    folder, _ = written("sd1")
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    for path, words in ((tmp_path / "a.safetensors", "holds no VAE"), (tmp_path / "none", "there is no VAE")):
        with pytest.raises(SdrtError, match=words):
            open_source(str(folder), vae=path)
