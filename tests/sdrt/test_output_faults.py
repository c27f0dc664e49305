"""Where pictures go: never over another file, whole or not at all, and a bad place is said at once."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from PIL import Image

from sdrt.errors import InputError, SdrtError
from sdrt.image_files import default_name, save_image

PIXELS = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)


def test_a_name_that_exists_gets_a_number(sdrt_main, tmp_path):
    (tmp_path / "x.png").write_text("mine")
    (tmp_path / "x-1.png").write_text("mine too")
    result = sdrt_main("generate", "a cat", "--steps", "1", "-n", "2", "-o", "x.png")
    assert result.out == "x-2.png\nx-3.png\n"
    assert (tmp_path / "x.png").read_text() == "mine"
    assert (tmp_path / "x-1.png").read_text() == "mine too"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x-1.png", "x-2.png", "x-3.png", "x.png"]


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("folder", ("folder is a directory", "folder/picture.png")),
        (".", (". is a directory",)),
        ("no/such/x.png", ("there is no folder no/such", "mkdir -p no/such")),
        ("x.gif", ("x.gif is not a PNG, JPG, JPEG or WEBP name", "x.gif.png")),
        ("x", ("x is not a PNG, JPG", "x.png")),
        ("file/x.png", ("cannot write", "-o")),
        ("/proc/x.png", ("cannot write to /proc", "-o")),
        ("x" * 300 + ".png", ("cannot write", "File name too long", "-o")),
        ("line\nbreak/x.png", ("there is no folder line break",)),
    ],
)
def test_bad_places_are_refused_before_any_work(refused, graphs_stay_closed, tmp_path, output, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    refused("generate", "a cat", "-o", output, says=says)


def test_folder_that_may_not_be_written(refused, graphs_stay_closed, monkeypatch, tmp_path):
    # root may write everywhere, so the system's answer is put in its mouth
    def refuse(*args, **settings):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    refused("generate", "a cat", "-o", "x.png", says=("cannot write to .: Permission denied", "-o"))


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failure_in_the_middle_of_writing_leaves_nothing(sdrt_main, monkeypatch, tmp_path, failure):
    def save(self, stream, **settings):
        stream.write(b"\x89PNG half a picture")
        stream.flush()
        assert len(list(tmp_path.iterdir())) == 2, "it is written beside its place"
        raise failure

    (tmp_path / "x.png").write_text("mine")
    monkeypatch.setattr(Image.Image, "save", save)
    result = sdrt_main("generate", "a cat", "--steps", "1", "-o", "x.png")
    if isinstance(failure, OSError):
        assert (result.code, result.err) == (1, "Error: cannot write x.png: No space left on device\n")
    else:
        assert (result.code, result.err.strip()) == (130, "")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"x.png": "mine"}


def test_saved_pixels(tmp_path):
    path = save_image(PIXELS, tmp_path / "x.png", {"parameters": "text"})
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), PIXELS)
        assert image.info["parameters"] == "text"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_file_systems_without_hard_links(tmp_path, monkeypatch, code):
    def link(source, target):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    names = [save_image(PIXELS, tmp_path / "x.png", {}).name for _ in range(3)]
    assert names == ["x.png", "x-1.png", "x-2.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)


def test_folder_that_vanishes(tmp_path):
    with pytest.raises(SdrtError, match="cannot write"):
        save_image(PIXELS, tmp_path / "gone" / "x.png", {})


def test_picture_checks_its_place(pipeline, tmp_path):
    (picture,) = pipeline.generate("a cat", steps=1)
    with pytest.raises(InputError, match="is a directory"):
        picture.save(tmp_path)
    assert picture.save(tmp_path / "x.png") == tmp_path / "x.png"
    assert picture.save(str(tmp_path / "x.png")) == tmp_path / "x-1.png"


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a Red  circle!", "a-red-circle.png"),
        ("", "picture.png"),
        ("赤い丸", "picture.png"),
        ("../../etc/passwd", "etc-passwd.png"),
        ("-rf", "rf.png"),
        ("a" * 500, "a" * 48 + ".png"),
        ("\0", "picture.png"),
    ],
)
def test_names_from_prompts(prompt, name):
    assert default_name(prompt) == name


def test_several_pictures_without_a_name(sdrt_main):
    result = sdrt_main("generate", "a cat", "--steps", "1", "-n", "3")
    assert result.out.split() == ["a-cat.png", "a-cat-1.png", "a-cat-2.png"]


def test_name_that_is_not_utf8(tmp_path):
    # as most terminals are set: strict, unlike the C locale
    command = [sys.executable, "-m", "sdrt", "generate", "a cat", "--steps", "1", "-o", b"\xff.png"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\xff.png\n", b"")
    assert os.listdir(os.fsencode(tmp_path)) == [b"\xff.png"]  # noqa: PTH208


LONG = "x" * 300


@pytest.mark.parametrize(
    "args",
    [
        ("info", LONG),
        ("info", f"{LONG}.png"),
        ("verify", LONG),
        *(
            ("generate", "a", *more)
            for more in (
                ("-m", LONG),
                ("-o", f"{LONG}.png"),
                ("-o", f"{{prompt}}{LONG}/x.png"),
                ("--init-image", f"{LONG}.png"),
                ("--from", f"{LONG}.png"),
                ("--textual-inversion", LONG),
                ("--textual-inversion", f"{LONG}:word"),
                ("--lora", f"{LONG}.safetensors:0.5"),
                ("--frames-dir", LONG),
                ("--preview", f"{LONG}.png"),
                ("--gif", f"{LONG}.gif"),
                ("--x", "steps=1", "--grid", f"{LONG}.png"),
            )
        ),
        ("generate", "--prompts", f"{LONG}.txt"),
        ("bench", "run", LONG),
        ("bench", "tune", "-m", LONG),
    ],
    ids=lambda args: " ".join(args)[:30].replace("x" * 5, ""),
)
def test_names_that_no_file_can_have(refused, graphs_stay_closed, args):
    refused(*args, says=("xxx", "too long"))


@pytest.mark.parametrize("option", ["--lora", "--textual-inversion"])
def test_a_pipe_is_not_waited_for(run_sdrt, tmp_path, option):
    os.mkfifo(tmp_path / "x.safetensors")
    result = run_sdrt("generate", "a", option, "x.safetensors", timeout=20)
    assert result.code == 2
    assert result.err.startswith("Error: x.safetensors is no plain file")
