"""What a picture says of how it was made: read by other tools, and enough to make it again."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import sdrt
from sdrt.bundle import DEMO
from sdrt.image_files import save_image
from sdrt.manifest import FILE_NAME, read
from sdrt.metadata import MadeWith, parse_parameters, read_settings, texts
from sdrt.metadata.image_texts import read_texts
from sdrt.request import resolve_request

MANIFEST = read(DEMO / FILE_NAME)
PIXELS = np.zeros((8, 8, 3), np.uint8)

PROMPTS = [
    "a large red circle on a blue background",
    "",
    "two\nlines, and commas",
    'quotes " and \\ backslashes: Steps: 99',
    "emoji 🐸 and עברית",
    "latin é",
    "tab\tand\rreturn",
    "ends with a newline\n",
    "Steps: 20, Sampler: Euler, CFG scale: 7",
]


def written(tmp_path, **request):
    """The texts of a request, once through a PNG."""
    one = resolve_request(MANIFEST, request.pop("prompt", "a cat"), **request)
    made = MadeWith(manifest=MANIFEST, backend="onnxruntime")
    found = read_texts(save_image(PIXELS, tmp_path / "x.png", texts(one, made, {}, PIXELS))).texts
    return one, found["parameters"], json.loads(found["sdrt"])


def test_layout_of_automatic1111(tmp_path):
    _, text, _ = written(
        tmp_path,
        prompt="a cat",
        negative_prompt="blue",
        steps=20,
        sampler="DPM++ 2M Karras",
        guidance_scale=7.0,
        seed=5,
        width=64,
        height=72,
    )
    weights = MANIFEST.files["unet/model.onnx.data"].sha256[:10]
    name = MANIFEST.name
    if re.search(r'[,:\n"]', name):
        name = json.dumps(name)
    assert text == (
        "a cat\n"
        "Negative prompt: blue\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 5, Size: 64x72, "
        f"Model hash: {weights}, Model: {name}, RNG: CPU, Version: sdrt {sdrt.__version__}"
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sampler": "euler"}, "Uniform"),  # without a word AUTOMATIC1111 would take its Automatic
        ({"sampler": "dpmpp_2m", "sigma_schedule": "karras"}, "Karras"),
        ({"sampler": "euler", "schedule": "comfyui:sgm_uniform"}, "SGM Uniform"),
        ({"sampler": "euler", "schedule": "align_your_steps"}, "Align Your Steps"),
        ({"sampler": "ddim"}, None),
        ({"sampler": "euler", "sigmas": (10, 1, 0)}, None),
    ],
)
def test_the_schedule_in_words_of_automatic1111(tmp_path, settings, says):
    _, text, _ = written(tmp_path, prompt="a cat", **settings)
    assert parse_parameters(text).get("Schedule type") == says


def test_no_negative_prompt_leaves_no_word(tmp_path):
    _, text, _ = written(tmp_path, prompt="a cat", sampler="euler", guidance_scale=2.5)
    assert "Negative" not in text
    assert "Sampler: Euler, Schedule type: Uniform, CFG scale: 2.5" in text


@pytest.mark.parametrize("negative", ["", "blue, ugly\nsecond line"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_come_back(tmp_path, prompt, negative):
    one, text, own = written(tmp_path, prompt=prompt, negative_prompt=negative, seed=9)
    fields = parse_parameters(text)
    assert fields["Prompt"] == prompt
    assert fields.get("Negative prompt", "") == negative
    assert fields["Seed"] == "9"
    assert fields["Size"] == f"{one.width}x{one.height}"
    assert (own["prompt"], own["negative_prompt"]) == (prompt, negative)


def test_clip_skip_is_written_where_it_is_not_the_models_own(tmp_path):
    _, text, own = written(tmp_path, clip_skip=2)
    assert (parse_parameters(text)["Clip skip"], own["clip_skip"]) == ("2", 2)
    assert text.index("Model:") < text.index("Clip skip: 2, ") < text.index("RNG:")
    (tmp_path / "x.png").unlink()
    _, text, own = written(tmp_path, clip_skip=1)
    assert "Clip skip" not in text and own["clip_skip"] == 1


def test_a_plain_prompt_is_escaped_for_tools_that_read_the_syntax(tmp_path):
    prompt, negative = "a (cat:1.2) AND [b|c]", "10:30 \\o/ (d)"
    one, text, own = written(tmp_path, prompt=prompt, negative_prompt=negative, prompt_syntax="plain")
    assert (own["prompt"], own["negative_prompt"], own["prompt_syntax"]) == (prompt, negative, "plain")
    fields = parse_parameters(text)
    read = resolve_request(MANIFEST, fields["Prompt"], negative_prompt=fields["Negative prompt"])
    assert fields["Prompt"] != prompt and "[" in fields["Prompt"]
    assert read.prompts() == one.prompts()


def test_nul_comes_back_from_the_exact_text(tmp_path):
    _, text, own = written(tmp_path, prompt="a\0b", negative_prompt="c\0")
    assert own["prompt"] == "a\0b"
    assert own["negative_prompt"] == "c\0"
    # a PNG text ends at NUL
    assert parse_parameters(text)["Prompt"] == "a\ufffdb"
    assert parse_parameters(text)["Steps"] == str(MANIFEST.defaults.steps)


@settings(deadline=None, max_examples=100)
@given(prompt=st.text(max_size=80), negative=st.text(max_size=40))
def test_any_prompt_comes_back(tmp_path_factory, prompt, negative):
    folder = tmp_path_factory.getbasetemp()
    _, text, own = written(folder, prompt=prompt, negative_prompt=negative, seed=1)
    (folder / "x.png").unlink()
    assert (own["prompt"], own["negative_prompt"]) == (prompt, negative)
    assert parse_parameters(text)["Seed"] == "1"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", {"Prompt": ""}),
        ("just a prompt", {"Prompt": "just a prompt"}),
        ("two\nlines: of, text", {"Prompt": "two\nlines: of, text"}),
        ("a\nNegative prompt: b\nSteps: 1", {"Prompt": "a", "Negative prompt": "b", "Steps": "1"}),
        ("Steps: 1", {"Prompt": "", "Steps": "1"}),
        (
            'a\nSteps: 2, Lora hashes: "x: 1, y: 2", Model: a "b", Size: 8x8, Empty: , Last: 1',
            {
                "Prompt": "a",
                "Steps": "2",
                "Lora hashes": "x: 1, y: 2",
                "Model": 'a "b"',
                "Size": "8x8",
                "Empty": "",
                "Last": "1",
            },
        ),
        ('a\nSteps: 2, [odd], {"k": 1}, Seed: 3', {"Prompt": "a", "Steps": "2", "Seed": "3"}),
        (
            'a\nSteps: 2, Broken: "open, Seed: 3',
            {"Prompt": "a", "Steps": "2", "Broken": '"open', "Seed": "3"},
        ),
    ],
)
def test_texts_of_other_tools(text, fields):
    assert parse_parameters(text) == fields


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=200) | st.text(alphabet='Steps: 1,"\\\n', max_size=200))
def test_any_text_can_be_parsed(text):
    assert "Prompt" in parse_parameters(text)


@pytest.mark.parametrize("filler", [" ", "a", "a ", "\\", ":", ": ", ","])
def test_a_strangers_text_takes_no_time(filler):
    started = time.perf_counter()
    parse_parameters("a cat\n" + filler * 30_000)
    parse_parameters("a cat\nSteps: 1, " + filler * 30_000)
    assert time.perf_counter() - started < 2


def test_a_picture_can_be_made_again_from_its_own_words(pipeline, tmp_path):
    first = pipeline.generate(
        "a star, red",
        negative_prompt="blue",
        steps=3,
        guidance_scale=2.123456789,
        sampler="dpmpp_2m",
        sigma_schedule="karras",
        spacing="trailing",
        seed=2**40 + 1,
        prompt_syntax="plain",
        clip_skip=2,
        width=72,
        height=64,
    )[0]
    again = pipeline.generate(**read_settings(first.save(tmp_path / "x.png")).settings)[0]
    np.testing.assert_array_equal(again.pixels, first.pixels)
    assert again.texts == first.texts


class TestInfo:
    def test_picture(self, sdrt_main, tmp_path):
        args = ("-N", "blue", "--steps", "2", "--seed", "7", "--sampler", "euler", "-o", "x.png")
        sdrt_main("generate", "a red\nstar, 🐸", *args)
        told = json.loads(sdrt_main("info", "x.png", "--json").out)
        assert told["size"] == [MANIFEST.defaults.width, MANIFEST.defaults.height]
        assert told["sdrt"]["prompt"] == "a red\nstar, 🐸"
        assert told["sdrt"]["seed"] == 7
        assert told["sdrt"]["model"]["name"] == MANIFEST.name
        assert told["sdrt"]["backend"] == "onnxruntime"
        assert told["parameters"]["Prompt"] == "a red\nstar, 🐸"
        assert told["parameters"]["Negative prompt"] == "blue"
        shown = sdrt_main("info", "x.png").out
        for words in ("🐸", "negative_prompt: blue", "steps: 2", "sampler: euler", "seed: 7"):
            assert words in shown

    def test_picture_of_another_tool(self, sdrt_main, tmp_path):
        info = PngInfo()
        info.add_text("parameters", "a dog\nSteps: 30, Sampler: Euler a, Seed: 4")
        Image.new("RGB", (16, 8)).save("x.png", pnginfo=info)
        told = json.loads(sdrt_main("info", "x.png", "--json").out)
        assert told["size"] == [16, 8]
        assert told["sdrt"] is None
        assert told["parameters"]["Sampler"] == "Euler a"
        assert "Sampler: Euler a" in sdrt_main("info", "x.png").out

    def test_picture_that_says_nothing(self, sdrt_main):
        Image.new("RGB", (16, 8)).save("x.jpg")
        assert sdrt_main("info", "x.jpg").out == "x.jpg: 16x8\nit does not say how it was made\n"

    @pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
    def test_no_picture(self, refused, tmp_path, content):
        (tmp_path / "x.png").write_bytes(content)
        refused("info", "x.png", says=("cannot read x.png as a picture",))

    def test_truncated_picture(self, refused, tmp_path):
        path = save_image(
            np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), tmp_path / "x.png", {}
        )
        path.write_bytes(path.read_bytes()[:-3000])
        refused("info", "x.png", says=("cannot read x.png as a picture",))

    @pytest.mark.parametrize("own", ["not JSON", "[1]", '"x"', "null", "[" * 100_000, '{"a": "\\ud800"}'])
    def test_words_that_another_program_changed(self, sdrt_main, own):
        info = PngInfo()
        info.add_text("sdrt", own)
        Image.new("RGB", (8, 8)).save("x.png", pnginfo=info)
        for flag in ([], ["--json"]):
            result = sdrt_main("info", "x.png", *flag)
            assert "this is a bug" not in result.err
            assert result.code in (0, 2)

    def test_bundle(self, sdrt_main, bundle):
        told = json.loads(sdrt_main("info", str(bundle), "--json").out)
        assert told == json.loads((bundle / FILE_NAME).read_text())
        shown = sdrt_main("info", str(bundle)).out
        assert MANIFEST.name in shown
        assert f"{MANIFEST.defaults.width}x{MANIFEST.defaults.height}" in shown
        assert "encoder_hidden_states" in shown
        assert "relative L2" in shown
        assert sdrt_main("info", "demo").out.splitlines()[1:] == shown.splitlines()[1:]
