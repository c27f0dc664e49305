"""Pictures that a run is given: as a person sees them, whatever the file says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms

from sdrt.errors import InputError
from sdrt.image_reading import opened_image
from sdrt.source_images import Placement, read_source, source_size

RED, BLUE, WHITE = (220, 20, 30), (20, 40, 220), (255, 255, 255)


def halves(width=32, height=16):
    """Red on the left, blue on the right."""
    left = np.arange(width)[None, :, None] < width // 2
    return np.broadcast_to(np.where(left, RED, BLUE), (height, width, 3)).astype(np.uint8)


def read(path, width=32, height=16, *, mask=None, alpha="hole", **place):
    return read_source(path, Placement(size=(width, height), **place), mask=mask, alpha=alpha)


def saved(tmp_path, image, name="picture.png", **options):
    path = tmp_path / name
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def near(pixels, colour, within=3):
    return np.abs(pixels.astype(int) - colour).max() <= within


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """A camera writes the picture as its sensor saw it, and how to turn it."""
    turns = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    pixels = halves()
    pixels[:4] = WHITE  # no two turns of it are alike
    turn = turns[orientation]
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, image if turn is None else image.transpose(turn), exif=exif)
    size = source_size(path)
    assert (size.width, size.height) == (32, 16)
    np.testing.assert_array_equal(read(path).pixels, pixels)


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_modes_show_the_same_colours(tmp_path, mode):
    image = Image.fromarray(halves())
    if mode == "LAB":
        image = ImageCms.profileToProfile(
            image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    else:
        image = image.quantize(8) if mode == "P" else image.convert(mode)
    name = {"CMYK": "x.tif", "YCbCr": "x.jpg", "LAB": "x.tif"}.get(mode, "x.png")
    source = read(saved(tmp_path, image, name, **({"quality": 100} if name == "x.jpg" else {})))
    assert near(source.pixels[:, :14], RED, 12)
    assert near(source.pixels[:, -14:], BLUE, 12)
    assert source.painted is None


def test_a_broken_profile_of_inks_is_ignored(tmp_path):
    image = Image.new("CMYK", (32, 16), (0, 255, 255, 0))
    plain = read(saved(tmp_path, image, "plain.tif"))
    assert near(plain.pixels, (255, 0, 0))
    broken = read(saved(tmp_path, image, "broken.tif", icc_profile=b"no profile at all"))
    np.testing.assert_array_equal(broken.pixels, plain.pixels)


def test_sixteen_bits_are_scaled(tmp_path):
    values = np.linspace(0, 65535, 32).astype(np.uint16)[None].repeat(16, 0)
    source = read(saved(tmp_path, Image.fromarray(values)))
    np.testing.assert_array_equal(source.pixels[0, :, 1], np.round(values[0] / 257))


def test_one_bit_and_grey(tmp_path):
    grey = np.tile(np.arange(32, dtype=np.uint8) * 8, (16, 1))
    np.testing.assert_array_equal(read(saved(tmp_path, grey)).pixels[..., 2], grey)
    lines = Image.fromarray(grey > 100)
    assert set(np.unique(read(saved(tmp_path, lines, "lines.png")).pixels)) == {0, 255}


def test_the_first_frame_counts(tmp_path):
    frames = [Image.fromarray(np.full((16, 32, 3), colour, np.uint8)) for colour in (RED, BLUE)]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert near(read(path).pixels, RED)


def test_floats_are_refused(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.zeros((8, 8), np.float32)), "x.tif")
    with pytest.raises(InputError, match="floating-point"):
        read(path)


def test_damaged_and_absent(tmp_path):
    whole = saved(tmp_path, np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    for name, data in {
        "cut.png": whole.read_bytes()[:3000],
        "empty.png": b"",
        "text.png": b"no picture",
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match="cannot read"):
            read(tmp_path / name)
    with pytest.raises(InputError, match="there is no picture"):
        read(tmp_path / "absent.png")
    with pytest.raises(InputError, match="cannot read"):
        read(tmp_path)


def test_decompression_bombs_are_refused(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (30_000, 30_000)).save(path)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(InputError, match="scale it down"), opened_image(path):
        pass


# ---------------------------------------------------------------- size


def test_a_few_pixels_are_cut_off_and_none_is_changed(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (21, 37, 3)).astype(np.uint8)
    source = read(saved(tmp_path, pixels))
    np.testing.assert_array_equal(source.pixels, pixels[2:18, 2:34])


def test_crop_keeps_proportions_and_the_middle(tmp_path):
    pixels = np.full((64, 128, 3), BLUE, np.uint8)
    pixels[:, 48:80] = RED  # a quarter of the width; half of what is left at 64 x 64
    source = read(saved(tmp_path, pixels), 32, 32)
    assert near(source.pixels[:, 9:23], RED)
    assert near(source.pixels[:, :7], BLUE)


def test_stretch_keeps_everything(tmp_path):
    source = read(saved(tmp_path, halves(128, 64)), 32, 32, fit="stretch")
    assert near(source.pixels[:, :12], RED)
    assert near(source.pixels[:, 20:], BLUE)


def test_padding_has_the_colours_beside_it(tmp_path):
    source = read(saved(tmp_path, halves(32, 16)), 32, 48, fit="pad")
    np.testing.assert_array_equal(source.pixels[16:32], halves(32, 16))
    for row in (source.pixels[15], source.pixels[32]):
        assert near(row[:4], RED, 60)
        assert near(row[-4:], BLUE, 60)
    assert source.painted is None


def test_outpainting_paints_what_is_added(tmp_path):
    source = read(saved(tmp_path, halves(32, 16)), 48, 24, outpaint=(16, 0, 0, 8))
    expected = np.full((24, 48), True)
    expected[:16, 16:] = False
    np.testing.assert_array_equal(source.painted, expected)
    np.testing.assert_array_equal(source.pixels[:16, 16:], halves(32, 16))
    assert near(source.pixels[:16, :12], RED, 60)


# ---------------------------------------------------------------- what is painted


def test_a_mask_of_another_size(tmp_path):
    mask = np.zeros((32, 64), np.uint8)
    mask[:, 32:] = 255
    path = saved(tmp_path, halves())
    source = read(path, mask=saved(tmp_path, mask, "mask.png"))
    np.testing.assert_array_equal(source.painted, np.arange(32)[None].repeat(16, 0) >= 16)


def test_a_mask_is_placed_as_its_picture_is(tmp_path):
    pixels, mask = np.zeros((64, 128, 3), np.uint8), np.zeros((64, 128), np.uint8)
    pixels[16:48, 64:80] = mask[16:48, 64:80] = 255
    path = saved(tmp_path, pixels)
    for fit in ("crop", "pad", "stretch"):
        source = read(path, 64, 64, mask=saved(tmp_path, mask, "mask.png"), fit=fit)
        visible = source.pixels[..., 0] >= 128
        if fit == "pad":
            visible |= (np.arange(64) < 16)[:, None] | (np.arange(64) >= 48)[:, None]
        np.testing.assert_array_equal(source.painted, visible)


def test_white_strokes_on_nothing_are_a_mask(tmp_path):
    mask = np.zeros((16, 32, 4), np.uint8)
    mask[:, 20:] = 255
    mask[:, :8] = (255, 255, 255, 0)  # white that is not to be seen
    source = read(saved(tmp_path, halves()), mask=saved(tmp_path, mask, "mask.png"))
    np.testing.assert_array_equal(source.painted, np.arange(32)[None].repeat(16, 0) >= 20)


@pytest.mark.parametrize("kind", ["RGBA", "P", "LA"])
def test_a_transparent_hole_is_painted(tmp_path, kind):
    pixels = np.dstack([halves(), np.full((16, 32), 255, np.uint8)])
    pixels[4:12, 8:24] = (0, 255, 0, 0)
    image = Image.fromarray(pixels)
    if kind == "P":
        image = image.quantize(16)
    path = saved(tmp_path, image.convert(kind))
    assert source_size(path).has_hole
    source = read(path)
    hole = np.zeros((16, 32), bool)
    hole[4:12, 8:24] = True
    np.testing.assert_array_equal(source.painted, hole)
    if kind != "LA":
        filled = source.pixels[hole].astype(int)  # of the colours around it, not of those below
        assert (filled[:, 1] < 60).all()
    flat = read(path, alpha="flatten")
    assert flat.painted is None
    assert near(flat.pixels[hole], WHITE)


def test_what_is_half_transparent_stays(tmp_path):
    pixels = np.dstack([halves(), np.full((16, 32), 200, np.uint8)])
    path = saved(tmp_path, pixels)
    assert not source_size(path).has_hole
    assert read(path).painted is None


def test_nothing_to_be_seen_is_refused(tmp_path):
    with pytest.raises(InputError, match="transparent all over"):
        read(saved(tmp_path, np.zeros((16, 32, 4), np.uint8)))


@pytest.mark.parametrize("blur", [0.0, 0.5, 1.0, 4.0, 16.0])
def test_beyond_three_blurs_nothing_changes(tmp_path, blur):
    rng = np.random.default_rng(3)
    pixels, made = rng.integers(0, 256, (2, 128, 160, 3)).astype(np.uint8)
    mask = np.zeros((128, 160), np.uint8)
    mask[:, :40] = 255
    source = read(saved(tmp_path, pixels), 160, 128, mask=saved(tmp_path, mask, "mask.png"))
    painted = source.paint_into(made, blur)
    reach = 40 + int(np.ceil(3 * blur)) + (blur == 0.5)  # Pillow's smallest kernel reaches two pixels
    np.testing.assert_array_equal(painted[:, reach:], pixels[:, reach:])
    within = max(40 - int(np.ceil(3 * blur)) - 1, 0)
    np.testing.assert_array_equal(painted[:, :within], made[:, :within])


def test_grey_with_a_transparent_shade(tmp_path):
    """PNG can name one shade of grey that is transparent."""
    grey = Image.fromarray(np.where(np.arange(32) < 16, 40, 200).astype(np.uint8)[None].repeat(16, 0))
    path = saved(tmp_path, grey, transparency=40)
    source = read(path)
    assert source.painted[:, :16].all() and not source.painted[:, 16:].any()
    assert near(read(path, alpha="flatten").pixels[:, :16], WHITE, 0)
