"""Texts of pictures that mean harm: an error in one line, nothing opened outside, no time lost."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdrt.errors import InputError
from sdrt.metadata.automatic1111 import read_parameters
from sdrt.metadata.checked import MAX_TEXT
from sdrt.metadata.comfyui import read_graph
from sdrt.metadata.invokeai import read_metadata, read_old_metadata
from sdrt.metadata.own import read_own

READERS = [read_own, read_parameters, read_graph, read_metadata, read_old_metadata]
KEYWORDS = ["sdrt", "parameters", "prompt", "invokeai_metadata", "sd-metadata"]


def save(path, **texts):
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)


@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "7",
        '"x"',
        "{}",
        "not JSON",
        "[" * 100_000,
        '{"prompt":' * 50_000,
        "{" + '"a":1,' * 100_000 + '"a":1}',
        "1" * 100_000,
        '{"prompt": ' + "9" * 5_000 + "}",
        '{"prompt": NaN}',
        '{"positive_prompt": "\\ud800", "seed": 1e999, "steps": -1}',
        '{"image": {"prompt": "a", "width": 1e400}}',
        "a\nSteps: , " + "A" * 100_000,
        "a\nSteps: " + "9" * 5_000 + ", Seed: " + "9" * 5_000,
        "\ufffe\x01\x7f",
    ],
    ids=lambda text: text[:20].encode("ascii", "backslashreplace").decode(),
)
def test_texts_of_no_program(refused, sdrt_main, tmp_path, keyword, text):
    save("x.png", **{keyword: text})
    refused("generate", "--from", "x.png", "-m", "demo", "--no-limits", says=("x.png",))
    assert "this is a bug" not in sdrt_main("info", "x.png").err


@pytest.mark.parametrize("read", READERS)
def test_a_text_beyond_all_bounds(read):
    with pytest.raises(InputError, match="characters, more than"):
        read(" " * (MAX_TEXT + 1))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
OWN = {
    "version": "0.1.0",
    "prompt": "a",
    "negative_prompt": "",
    "width": 64,
    "height": 64,
    "steps": 3,
    "guidance_scale": 2.0,
    "sampler": "euler",
    "guidance_interval": [0, 1],
    "blend": [],
    "seed": 1,
    "init_image": "x.png",
    "files_sha256": {},
    "model": {"name": "demo", "unet_sha256": "a" * 64, "graphs": {}},
    "loras": [],
    "embeddings": [],
    "backend": "onnxruntime",
    "pixels_sha256": "b" * 64,
}


@settings(deadline=None, max_examples=300)
@given(key=st.sampled_from(sorted(OWN)), value=_JSON)
def test_one_value_of_another_type(key, value):
    """It is read or refused, never a crash."""
    try:
        found = read_own(json.dumps(OWN | {key: value}))
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert all("/" not in file.name for file in found.pictures.values())


@settings(deadline=None, max_examples=300)
@given(
    value=_JSON,
    node=st.sampled_from("3456789"),
    key=st.sampled_from(["", "text", "model", "positive", "samples", "images", "steps", "ckpt_name", "clip"]),
)
def test_any_graph(value, node, key):
    inputs = {
        "3": {"seed": 1, "steps": 2, "cfg": 1, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
              "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]},
        "4": {"ckpt_name": "x.ckpt"},
        "5": {"width": 8, "height": 8, "batch_size": 1},
        "6": {"text": "a", "clip": ["4", 1]},
        "7": {"text": "b", "clip": ["4", 1]},
        "8": {"samples": ["3", 0], "vae": ["4", 2]},
        "9": {"images": ["8", 0]},
    }  # fmt: skip
    kinds = ["KSampler", "CheckpointLoaderSimple", "EmptyLatentImage", "CLIPTextEncode", "CLIPTextEncode"]
    kinds += ["VAEDecode", "SaveImage"]
    graph = {
        one: {"class_type": kind, "inputs": inputs[one]} for one, kind in zip(inputs, kinds, strict=True)
    }
    if key:
        graph[node]["inputs"][key] = value
    else:
        graph[node] = value
    try:
        read_graph(json.dumps(graph))
    except InputError as error:
        assert "\n" not in str(error)


@settings(deadline=None, max_examples=200)
@given(text=st.text(alphabet='aSteps: 1,"<lora:>x9Size\n', max_size=120))
def test_any_parameters(text):
    try:
        read_parameters(f"a\nSteps: 1, {text}")
    except InputError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "filler", ["<", "<lora:", "Steps: 1,\n", "(", "Negative prompt: ", "a: b, ", "<a:b>"]
)
def test_long_texts_take_no_time(filler):
    started = time.perf_counter()
    for text in (filler * 30_000, "a\nSteps: 1, " + filler * 30_000):
        try:
            found = read_parameters(text + "\nSteps: 1, Seed: 2")
        except InputError:
            continue
        assert len(found.notes) < 100_000
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("width", 10**9, "4194304"),
        ("steps", 100_000, "the limit is"),
        ("seed", -5, "seed is -5"),
        ("seed", 2**64, "seed is"),
        ("guidance_scale", 1e999, "guidance_scale is"),
        ("sampler", "os.system", "unknown sampler"),
        ("prompt_syntax", "python", "prompt_syntax"),
        ("clip_skip", 10**6, "clip skip is"),
        ("prompt", "(" * 100_000, "prompt"),
        ("prompt", "\ud800", "surrogate"),
        ("eta", "1", "eta is '1'"),
        ("blend", [["a", float("nan")]], "the blend"),
    ],
)
def test_limits_apply_as_at_the_command_line(refused, pipeline, tmp_path, key, value, says):
    said = json.loads(pipeline.generate("a red star", steps=1, seed=1)[0].texts["sdrt"])
    del said["pixels_sha256"]
    text = json.dumps(said | {key: value, "prompt": "" if key == "blend" else said["prompt"]} | {key: value})
    save("x.png", sdrt=text)
    refused("generate", "--from", "x.png", says=(says,))


def test_a_device_is_no_file(refused, pipeline, tmp_path):
    said = json.loads(pipeline.generate("a red star", steps=1, seed=1)[0].texts["sdrt"])
    lora = {"file": "/dev/zero", "sha256": "a" * 64, "weight": 1}
    save("x.png", sdrt=json.dumps(said | {"loras": [lora]}))
    refused("generate", "--from", "x.png", says=("the LoRA zero", "neither beside it nor in this folder"))


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x87\x69\0\4\0\0\0\1\0\0\0\x08" * 40,
        b"Exif\0\0MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08\0\0\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x69\x87\2\0\xff\xff\xff\x7f\0\0\0\0\0\0\0\0",
    ],
)
def test_broken_exif(sdrt_main, tmp_path, exif):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("x.jpg", exif=exif)
    result = sdrt_main("info", "x.jpg")
    assert (result.code, result.err) == (0, "")
    assert result.out == "x.jpg: 8x8\nit does not say how it was made\n"


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_any_change_of_exif(tmp_path_factory, data):
    from sdrt.metadata.exif import write_exif
    from sdrt.metadata.image_texts import read_texts

    exif = bytearray(write_exif({"parameters": "a\nSteps: 1", "sdrt": "{}"}, "sdrt"))
    for _ in range(3):
        exif[data.draw(st.integers(6, len(exif) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.webp"
    Image.new("RGB", (2, 2)).save(path, exif=bytes(exif))
    assert read_texts(path).size == (2, 2)


HUGE = "9" * 400


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("parameters", f"a\nSteps: {HUGE}, Sampler: Euler, Seed: 1, Denoising strength: 0.5"),
        ("parameters", f"a\nSteps: 3, Sampler: Euler, Seed: {HUGE}"),
        ("parameters", f"a\nSteps: 3, Clip skip: -{HUGE}, Version: sdrt 0.1.0, Denoising strength: 0.5"),
        ("sdrt", json.dumps(OWN | {"init_image": None, "steps": 10**60})),
        ("sdrt", json.dumps(OWN | {"init_image": None, "width": -(10**60)})),
        ("sdrt", json.dumps(OWN | {"init_image": None, "seed": 10**400})),
        ("invokeai_metadata", json.dumps({"positive_prompt": "a", "steps": 10**60, "strength": 0.5})),
        ("sdrt", json.dumps(OWN | {"init_image": None, "negative_prompt": "\ud800"})),
    ],
)
def test_numbers_that_no_float_holds(refused, sdrt_main, tmp_path, keyword, text):
    save("x.png", **{keyword: text})
    args = ("--init-image", "x.png", "--strength", "0.5") if keyword != "sdrt" else ()
    refused("generate", "--from", "x.png", "-m", "demo", *args, says=("x.png",))
    assert "this is a bug" not in sdrt_main("info", "x.png").err
