"""Files that are no picture, and pictures that would take all memory: refused before anything is decoded."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdrt.errors import InputError
from sdrt.image_reading import MAX_PIXELS, MAX_SIDE, loaded_image, opened_image
from sdrt.metadata.image_texts import read_texts
from sdrt.source_images import Placement, read_source, source_size


def png(path, width, height, *, depth=8, colour=0, behind=b""):
    """A flat PNG, written a row at a time: this process never holds it."""

    def chunk(kind, content):
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    # all opaque, but for the first pixel of each row
    row = b"\0" * (1 + channels) + b"\xff" * ((width * channels * depth + 7) // 8 - channels)
    packing = zlib.compressobj(9)
    pixels = b"".join(packing.compress(row) for _ in range(height)) + packing.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    content = chunk(b"IHDR", head) + palette + chunk(b"IDAT", pixels) + behind + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def tiff(path, tags, *, behind=b""):
    """One directory of tags (number, type, count, value)."""
    head = b"II*\0" + struct.pack("<I", 8)
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    path.write_bytes(head + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + behind)
    return path


@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 80_000_000), (80_000_000, 1), (MAX_SIDE + 1, 1), (8192, 8193), (16_000, 5_000)],
)
def test_limits_of_sides_and_pixels(tmp_path, refused, width, height):
    path = png(tmp_path / "x.png", width, height) if max(width, height) < 10**6 else None
    if path is None:  # the header alone has the size
        path = png(tmp_path / "x.png", 1, 1)
        content = bytearray(path.read_bytes())
        content[16:24] = struct.pack(">II", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
        path.write_bytes(content)
    for read in (read_texts, source_size):
        with pytest.raises(InputError, match="scale it down"):
            read(path)
    refused("info", "x.png", says=("x.png", "scale it down"))
    refused("generate", "a cat", "--init-image", "x.png", says=("x.png", "scale it down"))
    Image.new("RGB", (64, 64)).save("sound.png")
    args = ("generate", "a cat", "--init-image", "sound.png", "--mask", "x.png")
    refused(*args, says=("x.png", "scale it down"))


def test_the_largest_mask_is_read(tmp_path):
    path = png(tmp_path / "x.png", 8192, 8192, depth=1)
    assert MAX_PIXELS == 8192 * 8192
    with opened_image(path) as image:
        assert image.size == (8192, 8192)


def test_a_file_holds_no_more_than_it_can(tmp_path):
    """Five thousand pixels a side in a few kB are a bomb, with noise they are a photograph."""
    path = png(tmp_path / "x.png", 5000, 5000, colour=2)
    with pytest.raises(InputError, match="5000 x 5000 pixels in"), opened_image(path):
        pass
    flat = path.read_bytes()
    path.write_bytes(flat + bytes(5000 * 5000 // 256 + 1 - len(flat)))
    with opened_image(path) as image:
        assert image.size == (5000, 5000)


@pytest.mark.parametrize("name", ["x.png", "x.eps", "x.jpg"])
def test_content_decides_and_nothing_is_started(tmp_path, refused, monkeypatch, name):
    """Pillow draws PostScript with Ghostscript, whatever the file is called."""
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **settings: pytest.fail("started a program"))
    monkeypatch.setattr(os, "system", lambda *args: pytest.fail("started a program"))
    (tmp_path / name).write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(ran) (w) file\nshowpage\n"
    )
    refused("generate", "a cat", "--init-image", name, says=(name, "none of PNG, JPEG, GIF, BMP, WEBP, TIFF"))
    refused("info", name, says=(name,)) if name != "x.eps" else None


@pytest.mark.parametrize("format", ["PPM", "TGA", "ICO", "PCX", "SGI", "JPEG2000", "IM", "DIB", "XBM"])
def test_other_formats_are_refused(tmp_path, format):
    image = Image.new("1" if format == "XBM" else "RGB", (16, 16))
    image.save(tmp_path / "x.png", format=format)
    with pytest.raises(InputError, match="none of PNG"), loaded_image(tmp_path / "x.png"):
        pass


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_the_six_formats_are_read_under_any_name(tmp_path, format):
    Image.new("RGB", (16, 12), (200, 10, 10)).save(tmp_path / "x.dat", format=format)
    source = read_source(tmp_path / "x.dat", Placement(size=(16, 12)))
    assert np.abs(source.pixels.astype(int) - (200, 10, 10)).max() <= 3


@pytest.mark.parametrize("what", ["fifo", "folder", "device"])
def test_no_plain_file(tmp_path, refused, what):
    path = tmp_path / "x.png"
    if what == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path) if what == "fifo" else path.mkdir()
    started = time.perf_counter()
    with pytest.raises(InputError, match="no plain file"), loaded_image(path):
        pass
    assert time.perf_counter() - started < 2


class TestOddTiffs:
    STRIP = ((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1), (278, 4, 1, 8))

    def test_a_tile_larger_than_the_picture(self, tmp_path):
        tile = ((322, 4, 1, 40_000), (323, 4, 1, 40_000), (324, 4, 1, 8), (325, 4, 1, 8), (259, 3, 1, 8))
        path = tiff(tmp_path / "x.tif", (*self.STRIP[:-1], *tile), behind=b"\0" * 64)
        with pytest.raises(InputError, match="scale it down"), loaded_image(path):
            pass

    @pytest.mark.parametrize(("tag", "value"), [(258, 0), (277, 60_000), (262, 99), (278, 0), (259, 7)])
    def test_tags_of_nonsense(self, tmp_path, tag, value):
        data = ((273, 4, 1, 150), (279, 4, 1, 64))
        tags = [one for one in (*self.STRIP, *data) if one[0] != tag]
        path = tiff(tmp_path / "x.tif", [*tags, (tag, 4, 1, value)], behind=b"\0" * 200)
        try:
            with opened_image(path) as image:
                assert image.size == (8, 8)
        except InputError as error:
            assert "\n" not in str(error)

    def test_ten_thousand_frames(self, tmp_path):
        """Counting them compares each with all before it."""
        tags = (*self.STRIP, (273, 4, 1, 8), (279, 4, 1, 64))
        one = len(tags) * 12 + 6
        content = b"II*\0" + struct.pack("<I", 8)
        for index in range(900):
            behind = 8 + (index + 1) * one
            entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
            content += (
                struct.pack("<H", len(tags)) + entries + struct.pack("<I", behind if index < 899 else 0)
            )
        (tmp_path / "x.tif").write_bytes(content)
        assert len(content) < 100_000
        started = time.perf_counter()
        assert read_texts(tmp_path / "x.tif").size == (8, 8)
        assert time.perf_counter() - started < 1


def test_frames_of_a_gif_are_not_counted(tmp_path, monkeypatch):
    from PIL.GifImagePlugin import GifImageFile

    frames = [Image.new("P", (8, 8), index) for index in range(4)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(GifImageFile, "n_frames", property(lambda self: pytest.fail("counted")))
    assert read_texts(tmp_path / "x.gif").size == (8, 8)


BOMBS = {
    "grey": {"width": 8192, "height": 8192},
    "one bit": {"width": 8192, "height": 8192, "depth": 1},
    "palette": {"width": 4096, "height": 4096, "colour": 3},
    "colour": {"width": 4096, "height": 4096, "colour": 2},
    "alpha": {"width": 4096, "height": 4096, "colour": 6},
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of a process")
@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("use", ["info", "init image", "mask"])
def test_a_small_file_takes_little_time_and_memory(tmp_path, name, use):
    """The largest flat pictures that are read, in a process that may have 500 MB more than Python needs."""
    path = png(tmp_path / "x.png", **BOMBS[name])
    assert path.stat().st_size < 100_000
    Image.new("RGB", (64, 64)).save(tmp_path / "sound.png")
    calls = {
        "info": "read_texts(Path('x.png'))",
        "init image": "source_size(Path('x.png')); read_source(Path('x.png'), Placement(size=(64, 64)))",
        "mask": "read_source(Path('sound.png'), Placement(size=(64, 64)), mask=Path('x.png'))",
    }
    program = (
        "import time; from pathlib import Path; import numpy, PIL.Image, PIL.ImageOps\n"
        "from sdrt.metadata.image_texts import read_texts\n"
        "from sdrt.source_images import Placement, read_source, source_size\n"
        "started = time.process_time()\n"
        f"{calls[use]}\n"
        # not ru_maxrss, which counts the process that this one was forked from
        "status = Path('/proc/self/status').read_text().split()\n"
        "print(time.process_time() - started, status[status.index('VmHWM:') + 1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds < 2
    assert kilobytes < 500_000


def scanned(path, times, side=256):
    """A progressive JPEG whose last scan is there so many times."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (120, 80, 40)).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    last = content.rindex(b"\xff\xda")
    path.write_bytes(content[:last] + content[last:-2] * times + content[-2:])
    return path


def test_a_jpeg_of_a_thousand_passes(tmp_path, refused):
    """Two hundred kB took ten seconds."""
    with opened_image(scanned(tmp_path / "x.jpg", 20)) as image:
        assert image.size == (256, 256)
    path = scanned(tmp_path / "x.jpg", 1000)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="scans, the limit is 64"), opened_image(path):
        pass
    refused("info", "x.jpg", says=("x.jpg", "scans"))


@pytest.mark.parametrize(
    "content",
    [
        # an IDAT of 4 GB; a picture of a palette without one
        "89504e470d0a1a0a0000000d49484452000000080000000808040000006e067600ffe00013494441540000",
        "89504e470d0a1a0a0000000d4948445200000008000000080803000000f3d14eb90000000c49444154789c6360a00e0000",
    ],
)
def test_what_pillow_trips_over_is_one_line(tmp_path, content):
    path = tmp_path / "x.png"
    path.write_bytes(bytes.fromhex(content))
    for read in (read_texts, source_size):
        with pytest.raises(InputError, match="cannot read"):
            read(path)
