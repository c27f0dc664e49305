"""PNG, JPEG and WebP: by the file's ending, with the same texts in each."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sdrt.errors import InputError, SdrtError
from sdrt.image_files import save_image
from sdrt.metadata.exif import write_exif
from sdrt.metadata.image_texts import read_texts

RNG = np.random.default_rng(0)
# smooth, as pictures are
PIXELS = (np.add.outer(np.arange(48), np.arange(64))[..., None] * [0.5, 1.0, 2.0]).astype(np.uint8)
NAMES = ("x.png", "x.jpg", "x.jpeg", "x.webp", "x.JPG")
ODD = [
    "a cat",
    "",
    'quotes " and \\ backslashes',
    "emoji 🐸 \U0001d518 and עברית",
    "two\nlines\r\n\ttab",
    "a\u0001b\uffff",
    "0\u0100" * 50,  # as many zeros in low bytes as in high ones
    "long, " * 2_000,
]


def psnr(one, other):
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("name", NAMES)
def test_texts_come_back(tmp_path, name, text):
    texts = {"parameters": f"{text}\nSteps: 1", "sdrt": f'{{"prompt": "{text}"}}'}
    assert read_texts(save_image(PIXELS, tmp_path / name, texts)).texts == texts


@settings(deadline=None, max_examples=60)
@given(text=st.text(min_size=1, max_size=60))
def test_any_text_comes_back_from_exif(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.webp"
    texts = {"parameters": f"{text}\nSteps: 1", "sdrt": text}
    Image.new("RGB", (2, 2)).save(path, exif=write_exif(texts, "sdrt"))
    assert read_texts(path).texts == texts


@pytest.mark.parametrize(
    ("name", "format_"),
    [("x.png", "PNG"), ("x.jpg", "JPEG"), ("x.jpeg", "JPEG"), ("x.webp", "WEBP"), ("x.WebP", "WEBP")],
)
def test_the_ending_says_the_format(tmp_path, name, format_):
    with Image.open(save_image(PIXELS, tmp_path / name, {})) as image:
        assert image.format == format_
        assert image.getexif().get(0x0131, "sdrt").startswith("sdrt")


@pytest.mark.parametrize("name", ["x.jpg", "x.webp"])
def test_a_lower_quality_is_a_smaller_file_and_another_picture(tmp_path, name):
    noisy = (PIXELS + RNG.integers(0, 16, PIXELS.shape)).astype(np.uint8)
    files = [save_image(noisy, tmp_path / name, {}, quality) for quality in (95, 60, 20)]
    sizes = [file.stat().st_size for file in files]
    likeness = [psnr(np.asarray(Image.open(file)), noisy) for file in files]
    assert sizes == sorted(sizes, reverse=True)
    assert likeness == sorted(likeness, reverse=True)


def test_colours_of_a_jpeg_stay_in_their_pixels(tmp_path):
    stripes = np.zeros((16, 64, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 200
    path = save_image(stripes, tmp_path / "x.jpg", {})
    # with one colour for four pixels, as JPEG has it by default, this is 10 dB
    assert psnr(np.asarray(Image.open(path)), stripes) > 30


def test_lossless_webp(tmp_path):
    noise = RNG.integers(0, 256, PIXELS.shape, np.uint8)
    path = save_image(noise, tmp_path / "x.webp", {}, 100)
    np.testing.assert_array_equal(Image.open(path), noise)


@pytest.mark.parametrize("quality", [0, 101, -1])
def test_quality_that_is_none(pipeline, refused, tmp_path, quality):
    picture = pipeline.generate("a", steps=1, seed=1)[0]
    with pytest.raises(InputError, match="quality is"):
        picture.save(tmp_path / "x.jpg", quality)
    assert not list(tmp_path.iterdir())
    refused("generate", "a", "--quality", str(quality), says=("--quality", "1<=x<=100"))


class TestJpegsRoom:
    """64 kB for both texts; sdrt's own is kept as long as it fits."""

    @pytest.mark.parametrize(
        ("length", "kept"),
        [(1_000, {"parameters", "sdrt"}), (30_000, {"sdrt"}), (70_000, set())],
    )
    def test_what_is_left_out(self, tmp_path, length, kept):
        texts = {"parameters": "a" * length, "sdrt": "b" * length}
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            path = save_image(PIXELS, tmp_path / "x.jpg", texts)
        assert read_texts(path).texts == {key: texts[key] for key in kept}
        assert len(said) == (len(kept) < 2)
        for key in texts.keys() - kept:
            assert key in str(said[0].message) and "PNG and WebP" in str(said[0].message)

    @pytest.mark.parametrize("name", ["x.png", "x.webp"])
    def test_others_hold_all(self, tmp_path, name):
        texts = {"parameters": "🐸" * 200_000, "sdrt": "b" * 900_000}
        assert read_texts(save_image(PIXELS, tmp_path / name, texts)).texts == texts

    def test_the_program_says_so(self, sdrt_main):
        prompt = "a long" + " " * 33_000 + "prompt"  # which is three words to the model
        result = sdrt_main("generate", prompt, "--steps", "1", "--seed", "1", "-o", "x.jpg")
        assert result.code == 0
        assert result.err == (
            "Warning: x.jpg does not hold its parameters text: JPEG has room for 64 kB; "
            "PNG and WebP hold it\n"
        )
        assert sdrt_main("generate", "--from", "x.jpg", "-o", "y.png").err.startswith("the pixels are those")


@pytest.mark.parametrize("name", ["x.webp", "x.jpg"])
def test_a_side_that_the_format_cannot_say(tmp_path, name):
    wide = np.zeros((1, 70_000, 3), np.uint8)
    with pytest.raises(SdrtError, match=f"cannot write .*{name}"):
        save_image(wide, tmp_path / name, {})
    assert not list(tmp_path.iterdir())
