"""Pictures made again with --from: the same bytes, or one line that says why not."""

from __future__ import annotations

import dataclasses
import json
import shutil

import lora_files
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import sdrt
from sdrt.bundle import DEMO
from sdrt.image_files import save_image
from sdrt.lora.overrides import read_parameters
from sdrt.manifest import FILE_NAME, read
from sdrt.metadata import MadeWith, RecordedSettings, read_settings, texts
from sdrt.metadata.image_texts import read_texts
from sdrt.metadata.own import read_own
from sdrt.metadata.written import LEFT_OUT
from sdrt.pipeline import Pipeline
from sdrt.request import Request, resolve_request

MANIFEST = read(DEMO / FILE_NAME)
QUERY = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q"
QUICK = ("--steps", "3", "--seed", "5")


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch, pipeline):
    """The program takes the demo model that is loaded already, where nothing is added to it."""
    load = Pipeline.load

    def loaded(bundle, **options):
        plain = bundle == DEMO and not options["loras"] and not options["embeddings"]
        return pipeline if plain and options["backend"] == "onnxruntime" else load(bundle, **options)

    monkeypatch.setattr(Pipeline, "load", loaded)


@pytest.fixture
def files(tmp_path):
    """What the requests below name: a LoRA, an embedding, a drawing and a mask."""
    shape = read_parameters(DEMO / "unet" / "model.onnx")[f"{QUERY}.weight"]
    factors = lora_files.random_factors({QUERY: shape}, 4, alpha=40.0)
    lora_files.write(tmp_path / "a style.safetensors", lora_files.kohya({"unet": factors}))
    width = MANIFEST.graphs["text_encoder"].outputs["last_hidden_state"].shape[-1]
    vector = np.random.default_rng(0).normal(0, 0.4, (2, width)).astype(np.float32)
    save_file({"emb_params": vector}, tmp_path / "blob.safetensors")
    drawing = np.zeros((72, 64, 3), np.uint8)
    drawing[20:40, 10:50] = (250, 30, 30)
    Image.fromarray(drawing).save(tmp_path / "drawing.png")
    mask = np.zeros((72, 64), np.uint8)
    mask[30:, :] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


TWENTY = [
    ("a red star",),
    ("a red star", "-N", "blue background", "-g", "3.3333333333"),
    ("a red star", "--sampler", "DPM++ 2M Karras"),
    ("a red star", "--sampler", "euler_a", "--eta", "0.7"),
    ("a red star", "--sampler", "dpmpp_sde", "--sigma-schedule", "exponential"),
    ("a red star", "--sampler", "unipc", "--spacing", "trailing"),
    ("a red star", "--sampler", "DPM++ 2M", "--schedule", "SGM Uniform"),
    ("a red star", "--sampler", "uni_pc_bh2_3", "--schedule", "comfyui:beta"),
    ("a red star", "--start-step", "1", "--zero-negative"),
    ("a red star", "--sampler", "heun", "--sigmas", "12,3.3,1"),
    ("a red star", "--sampler", "lcm", "-g", "1"),
    ("a red star", "--sampler", "ddim", "--eta", "1"),
    ("a red star", "--sampler", "deis_3", "--sigma-schedule", "beta"),
    ("a red star", "--guidance-interval", "0.2", "0.7"),
    ("a red star", "--clip-skip", "2"),
    ("a red star", "-W", "72", "-H", "40"),
    ("a red star AND a blue circle :0.7",),
    ("[a red:a (blue:1.4):0.5] [star|square]", "-N", "(green)"),
    ("a (red:1.2) star AND [b]", "--prompt-syntax", "plain"),
    ('quotes " and \\, a\nline, 🐸 עברית \0', "-o", "odd.webp"),
    ("a red star", "--lora", "a style.safetensors:0.7", "-o", "styled.jpg"),
    ("a red blob", "--textual-inversion", "blob.safetensors"),
    ("a blue circle", "--init-image", "drawing.png", "--strength", "0.7"),
    ("a blue circle", "--init-image", "drawing.png", "--mask", "mask.png", "--mask-blur", "2.5"),
]


@pytest.mark.parametrize("request_", TWENTY, ids=range(len(TWENTY)))
def test_twenty_pictures(sdrt_main, files, request_):
    output = () if "-o" in request_ else ("-o", "first.png")
    made = sdrt_main("generate", *request_, *QUICK, *output)
    assert made.code == 0, made.err
    (first,) = made.out.splitlines()
    again = sdrt_main("generate", "--from", first, "-o", "again.png")
    assert (again.code, again.out) == (0, "again.png\n"), again.err
    assert again.err == f"the pixels are those of {first}\n"
    if first.endswith(".png"):
        np.testing.assert_array_equal(Image.open(files / "again.png"), Image.open(files / first))
    before, after = (read_settings(files / name) for name in (first, "again.png"))
    assert before == after


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.jpeg", "x.webp"])
def test_every_field_of_a_request_is_written_and_read(tmp_path, name):
    """A field that is new is in the picture, or in the list of those that need not be."""
    changed = {
        "prompt": "a cat",
        "negative_prompt": "b",
        "width": 72,
        "height": 80,
        "steps": 7,
        "guidance_scale": 1.0 / 3,
        "sampler": "euler_a",
        "spacing": "trailing",
        "sigma_schedule": "karras",
        "eta": 0.1,
        "seed": 2**63 + 1,
        "count": 1,
        "prompt_syntax": "plain",
        "clip_skip": 2,
        "guidance_interval": (0.1, 0.9),
        "deep_cache": 3,
        "init_image": tmp_path / "in it.png",
        "start_step": 3,
        "fit": "pad",
        "alpha": "flatten",
        "mask": tmp_path / "mask.png",
        "mask_blur": 1.5,
        "outpaint": (8, 0, 16, 0),
        "image_guidance": None,
        "blend": (("a", 0.5), ("b", 0.25)),
        "variation_seed": 0,
        "variation_strength": 0.3,
        "schedule": "comfyui:beta",
        "sigmas": (1.0, 0.5, 0.0),
        "zero_negative": True,
    }
    request = Request(**changed)
    assert changed.keys() == {one.name for one in dataclasses.fields(Request)}, "say a value of the new field"
    pixels = np.zeros((8, 8, 3), np.uint8)
    made = MadeWith(manifest=MANIFEST, backend="onnxruntime")
    hashes = {"init_image": "a" * 64, "mask": "b" * 64}
    recorded = read_settings(save_image(pixels, tmp_path / name, texts(request, made, hashes, pixels)))
    found = {**recorded.settings, **{key: file.name for key, file in recorded.pictures.items()}}
    changed |= {"init_image": "in it.png", "mask": "mask.png"}
    assert found == {key: value for key, value in changed.items() if key not in LEFT_OUT}
    assert {key: file.sha256 for key, file in recorded.pictures.items()} == hashes


def test_what_it_was_made_with(pipeline):
    picture = pipeline.generate("a red star", steps=1, seed=1)[0]
    recorded = read_own(picture.texts["sdrt"])
    assert recorded.model.graphs.keys() == MANIFEST.graphs.keys()
    assert recorded.version == sdrt.__version__
    assert recorded.backend == "onnxruntime"
    assert recorded.library.startswith("onnxruntime 1.")
    assert "/" not in picture.texts["sdrt"].replace("b/c", "")


@pytest.fixture
def star(pipeline, tmp_path):
    """A picture of the demo model."""
    return pipeline.generate("a red star", steps=3, seed=5)[0].save(tmp_path / "star.png")


def own(path):
    return json.loads(read_texts(path).texts["sdrt"])


def rewritten(path, name, **changes):
    """The same picture with another text of sdrt's; None takes a key away."""
    said = {key: value for key, value in (own(path) | changes).items() if value is not None}
    return save_image(np.asarray(Image.open(path)), path.with_name(name), {"sdrt": json.dumps(said)})


class TestOverrides:
    def test_an_option_changes_what_the_picture_says(self, sdrt_main, star):
        result = sdrt_main(
            "generate", "--from", "star.png", "--seed", "6", "-N", "blue", "-o", "x.png", "--json"
        )
        said = json.loads(result.out)
        assert said["from"]["identical"] is False
        assert said["from"]["differs"] == ["negative_prompt 'blue' (was '')", "seed 6 (was 5)"]
        assert (own(star)["steps"], said["request"]["steps"]) == (3, 3)

    def test_another_prompt(self, sdrt_main, star):
        result = sdrt_main("generate", "a blue star", "--from", "star.png", "-o", "x.png")
        assert result.err == (
            "the pixels differ from those of star.png: prompt 'a blue star' (was 'a red star')\n"
        )

    def test_another_sampler_brings_its_own_schedule(self, sdrt_main, pipeline, tmp_path):
        pipeline.generate("a", steps=2, sampler="euler", sigma_schedule="karras")[0].save("k.png")
        assert sdrt_main("generate", "--from", "k.png", "--sampler", "lcm", "-o", "x.png").code == 0
        assert own(tmp_path / "x.png")["sigma_schedule"] == "plain"

    def test_several_pictures(self, sdrt_main, star, tmp_path):
        result = sdrt_main("generate", "--from", "star.png", "-n", "2", "-o", "x.png")
        assert result.err == "the pixels are those of star.png\n"
        assert own(tmp_path / "x-1.png")["seed"] == 6

    def test_other_steps_keep_the_strength(self, sdrt_main, files):
        sdrt_main("generate", "a", "--init-image", "drawing.png", "--steps", "8", "--strength", "0.5")
        sdrt_main("generate", "--from", "a.png", "--steps", "4", "-o", "x.png")
        assert (own(files / "a.png")["start_step"], own(files / "x.png")["start_step"]) == (4, 2)
        assert sdrt_main("generate", "--from", "a.png", "--strength", "0.25", "-o", "y.png").code == 0
        assert own(files / "y.png")["start_step"] == 6

    def test_no_prompt_and_no_picture(self, refused):
        refused("generate", says=("Missing argument 'PROMPT'",))


class TestModel:
    def test_is_found_under_engines_by_its_hash(self, sdrt_main, star, tmp_path, monkeypatch):
        shutil.copytree(DEMO, tmp_path / "engines" / "other name")
        monkeypatch.setattr("sdrt.models.DEMO", tmp_path / "no demo")
        monkeypatch.setattr("sdrt.models.exported_bundles", lambda: ["other name"])
        monkeypatch.setattr("sdrt.remake.exported_bundles", lambda: ["other name"])
        result = sdrt_main("generate", "--from", "star.png", "-o", "x.png")
        assert result.err == "the pixels are those of star.png\n"

    def test_that_is_not_here(self, refused, star):
        model = own(star)["model"] | {"name": "lost", "unet_sha256": "0123456789" + "a" * 54, "graphs": {}}
        rewritten(star, "x.png", model=model)
        refused("generate", "--from", "x.png", says=("x.png", "'lost' (hash 0123456789)", "-m"))

    def test_another_one_that_is_asked_for(self, sdrt_main, star):
        model = own(star)["model"] | {"name": "lost", "unet_sha256": "0123456789" + "a" * 54}
        rewritten(star, "x.png", model=model)
        result = sdrt_main("generate", "--from", "x.png", "-m", "demo", "-o", "y.png")
        warning, verdict = result.err.splitlines()
        assert warning.startswith("Warning: x.png: demo (hash ")
        assert "is not its model, 'lost' (hash 0123456789)" in warning
        assert verdict == "the pixels are those of x.png"  # since it is the same model after all

    def test_another_export_of_it(self, sdrt_main, star):
        model = own(star)["model"]
        rewritten(star, "x.png", model=model | {"graphs": model["graphs"] | {"vae_decoder": "b" * 64}})
        result = sdrt_main("generate", "--from", "x.png", "-o", "y.png")
        assert "Warning: x.png: demo is another export of its model: vae_decoder differ" in result.err

    def test_a_damaged_bundle_is_passed_over(self, sdrt_main, star, tmp_path):
        (tmp_path / "engines" / "bad").mkdir(parents=True)
        (tmp_path / "engines" / "bad" / FILE_NAME).write_text("{")
        assert sdrt_main("generate", "--from", "star.png", "-o", "x.png").code == 0


class TestFiles:
    @pytest.fixture
    def styled(self, sdrt_main, files):
        """A picture with a LoRA, in a folder of its own."""
        (files / "pictures").mkdir()
        made = sdrt_main(
            "generate", "a star", *QUICK, "--lora", "a style.safetensors:0.5", "-o", "pictures/x.png"
        )
        assert made.code == 0, made.err
        return files / "pictures" / "x.png"

    @pytest.mark.parametrize("folder", ["pictures", "."])
    def test_lie_beside_the_picture_or_here(self, sdrt_main, files, styled, folder):
        shutil.move(files / "a style.safetensors", files / "moved")
        shutil.move(files / "moved", files / folder / "a style.safetensors")
        result = sdrt_main("generate", "--from", "pictures/x.png", "-o", "y.png")
        assert result.err == "the pixels are those of pictures/x.png\n"

    def test_that_are_gone(self, refused, files, styled):
        (files / "a style.safetensors").unlink()
        says = ("LoRA a style.safetensors", own(styled)["loras"][0]["sha256"], "--lora")
        refused("generate", "--from", "pictures/x.png", says=says)

    def test_another_file_of_that_name(self, refused, files, styled):
        (files / "a style.safetensors").write_bytes(b"another")
        refused("generate", "--from", "pictures/x.png", says=("a style.safetensors is another file",))

    def test_given_by_an_option_under_another_name(self, sdrt_main, files, styled):
        (files / "a style.safetensors").rename(files / "renamed.safetensors")
        result = sdrt_main(
            "generate", "--from", "pictures/x.png", "--lora", "renamed.safetensors", "-o", "y.png"
        )
        assert own(files / "y.png")["loras"][0]["weight"] == 0.5  # the picture's
        assert result.err == "the pixels are those of pictures/x.png\n"

    def test_a_path_out_of_the_picture_is_a_name(self, refused, star):
        lora = {"file": "/etc/../etc/passwd", "sha256": "c" * 64, "weight": 1.0}
        rewritten(star, "x.png", loras=[lora])
        line = refused("generate", "--from", "x.png", says=("made with the LoRA passwd (SHA-256 ccc",))
        assert "/etc" not in line

    @pytest.mark.parametrize("name", ["..", "", "a/..", "a\0b", "x" * 300, 7, None])
    def test_names_that_no_file_has(self, refused, star, name):
        rewritten(star, "x.png", loras=[{"file": name, "sha256": "c" * 64, "weight": 1.0}])
        refused("generate", "--from", "x.png", says=("x.png: a LoRA is",))


class TestBackend:
    def test_the_same_unless_told(self, refused, sdrt_main, star):
        rewritten(star, "x.png", backend="onnxruntime:cuda")
        refused("generate", "--from", "x.png", says=("cuda",))
        result = sdrt_main("generate", "--from", "x.png", "--backend", "onnxruntime", "-o", "y.png")
        assert result.err == "the pixels are those of x.png\n"

    def test_one_that_is_not_known(self, refused, star):
        rewritten(star, "x.png", backend="os.system")
        refused("generate", "--from", "x.png", says=("x.png was made with a backend that is not here",))

    def test_what_differs_is_said(self, sdrt_main, star):
        changes = {
            "library": "onnxruntime 0.1",
            "machine": "cpu-0",
            "version": "9",
            "pixels_sha256": "d" * 64,
        }
        rewritten(star, "x.png", **changes)
        result = sdrt_main("generate", "--from", "x.png", "-o", "y.png")
        for words in ("sdrt 0.1.0 (was 9)", "(was onnxruntime 0.1)", "(was cpu-0)"):
            assert words in result.err

    def test_nothing_that_differs_is_known(self, sdrt_main, star):
        rewritten(star, "x.png", pixels_sha256="d" * 64)
        result = sdrt_main("generate", "--from", "x.png", "-o", "y.png")
        warning, verdict = result.err.splitlines()
        assert warning == "Warning: x.png: its pixels were changed since they were made"
        assert verdict == "the pixels differ from those of x.png: though nothing that it records does"


def test_pictures_from_before_graphs_were_hashed(sdrt_main, star):
    """Their text had no hash of pixels, files and graphs, and no field that came later."""
    later = ("files_sha256", "library", "machine", "pixels_sha256", "start_step", "fit", "alpha", "mask_blur")
    later += ("outpaint", "blend", "variation_seed", "variation_strength", "init_image", "mask")
    model = {key: value for key, value in own(star)["model"].items() if key != "graphs"}
    rewritten(star, "old.png", model=model, **dict.fromkeys(later))
    result = sdrt_main("generate", "--from", "old.png", "-o", "y.png")
    assert result.err == "the pixels are those of old.png\n"  # told by the PNG itself


def test_from_python(pipeline, star):
    recorded = sdrt.read_settings(star)
    assert isinstance(recorded, RecordedSettings)
    np.testing.assert_array_equal(pipeline.generate(**recorded.settings)[0].pixels, Image.open(star))
    assert resolve_request(MANIFEST, **recorded.settings).seed == 5
