"""`<lora:name:0.8>` in prompts: what --lora does with the file, wherever the file is found."""

from __future__ import annotations

import hashlib
import shutil

import lora_files
import numpy as np
import pytest
from PIL import Image

from sdrt.bundle import DEMO
from sdrt.errors import InputError
from sdrt.lora.overrides import read_parameters
from sdrt.lora.tags import LoraTag, find_lora, take_tags

MODULE = "mid_block.resnets.0.conv1"
QUICK = ("--steps", "2", "--seed", "1")


@pytest.fixture
def lora(tmp_path):
    shape = read_parameters(DEMO / "unet/model.onnx")[f"{MODULE}.weight"]
    factors = lora_files.random_factors({MODULE: shape}, 4, alpha=40.0)
    (tmp_path / "styles" / "deep").mkdir(parents=True)
    return lora_files.write(
        tmp_path / "styles/deep/My style.safetensors", lora_files.kohya({"unet": factors})
    )


def pixels(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def expected(sdrt_main, lora):
    assert sdrt_main("generate", "a red star", "--lora", f"{lora}:8", *QUICK, "-o", "expected.png").code == 0
    return pixels("expected.png")


@pytest.mark.parametrize("name", ["My style", "my STYLE", "sub/My style", "My style.safetensors"])
def test_by_name(sdrt_main, expected, name):
    made = sdrt_main("generate", f"a red star<lora:{name}:8>", "--lora-dir", "styles", *QUICK, "-o", "x.png")
    assert made.code == 0, made.err
    np.testing.assert_array_equal(pixels("x.png"), expected)
    again = sdrt_main(
        "generate", "--from", "x.png", "--lora", "styles/deep/My style.safetensors", "-o", "y.png"
    )
    assert "the pixels are those of x.png" in again.err


def test_by_hash(sdrt_main, expected, lora):
    digest = hashlib.sha256(lora.read_bytes()).hexdigest()[:12]
    made = sdrt_main("generate", f"a red star<lora:{digest}:8>", "--lora-dir", ".", *QUICK, "-o", "x.png")
    assert made.code == 0, made.err
    np.testing.assert_array_equal(pixels("x.png"), expected)


@pytest.mark.parametrize("place", ["bundle/loras", "loras"])
def test_beside_the_bundle(sdrt_main, expected, lora, bundle, place):
    shutil.copytree(lora.parent, place)
    made = sdrt_main("generate", "a red star<lora:My style:8>", "-m", str(bundle), *QUICK, "-o", "x.png")
    assert made.code == 0, made.err
    np.testing.assert_array_equal(pixels("x.png"), expected)


def test_beside_a_lora_of_the_command_line(sdrt_main, lora, expected):
    """Both are added: half of the weight twice is the whole."""
    words = ("a red star<lora:My style:4>", "--lora-dir", "styles", "--lora", f"{lora}:4")
    assert sdrt_main("generate", *words, *QUICK, "-o", "x.png").code == 0
    error = np.abs(pixels("x.png").astype(int) - expected)
    assert error.max() <= 1


def test_not_found_says_where_was_looked(sdrt_main, tmp_path):
    (tmp_path / "styles").mkdir()
    refused = sdrt_main("generate", "a <lora:nowhere:1>", "--lora-dir", "styles")
    assert refused.code == 2
    assert "'nowhere'" in refused.err and "styles" in refused.err and f"{DEMO}/loras" in refused.err


def test_plain_text_is_left_alone(sdrt_main, pipeline):
    made = sdrt_main("generate", "a <lora:x:1>", "--prompt-syntax", "plain", *QUICK, "-o", "x.png")
    assert made.code == 0, made.err
    same = pipeline.generate("a <lora:x:1>", prompt_syntax="plain", steps=2, seed=1)[0]
    np.testing.assert_array_equal(pixels("x.png"), same.pixels)


@pytest.mark.parametrize(
    "prompt", ["a <hypernet:x:1>", "a <lora:x:much>", "a <lora:x:nan>", "a <lora:x:1:0.5>"]
)
def test_what_is_refused(sdrt_main, prompt):
    refused = sdrt_main("generate", prompt)
    assert refused.code == 2 and len(refused.err.splitlines()) == 1


def test_pictures_of_a_run_have_the_same(sdrt_main, lora, tmp_path, expected):
    (tmp_path / "p.txt").write_text("a red star<lora:My style:8>\na <lora:My style:8> circle\n")
    words = ("--prompts", "p.txt", "--lora-dir", "styles", *QUICK)
    made = sdrt_main("generate", *words, "-o", "{line}.png")
    assert made.code == 0, made.err
    np.testing.assert_array_equal(pixels("1.png"), expected)
    (tmp_path / "p.txt").write_text("a red star<lora:My style:8>\na circle\n")
    refused = sdrt_main("generate", *words, "-o", "other{line}.png")
    assert refused.code == 2 and "p.txt, line 2" in refused.err


def test_the_library_says_how_loras_are_loaded(pipeline):
    with pytest.raises(InputError, match=r"Pipeline\.load"):
        pipeline.request("a <lora:x:1>")


def test_tags():
    text, tags = take_tags("a <lora:one:0.5> b <lyco:two> <3")
    assert (text, tags) == ("a  b  <3", [LoraTag("one", 0.5, 0.5), LoraTag("two", 1.0, 1.0)])


def test_no_link_leads_out_of_a_folder(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x.safetensors").write_bytes(b"")
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras/link").symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(InputError):
        find_lora(LoraTag("x", 1.0, 1.0), [tmp_path / "loras"])
