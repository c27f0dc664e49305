"""Animations, folders of frames and previews of `sdrt generate`: what is in them, never over other files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from sdrt.animation import save_animation
from sdrt.errors import InputError
from sdrt.frame_files import FrameFolder, PreviewFile
from sdrt.metadata import parse_parameters
from sdrt.metadata.image_texts import read_texts

PROMPT = "a large red circle on a blue background"
RUN = ("generate", PROMPT, "--seed", "1", "--steps", "6", "-o", "x.png")


def frames_of(path):
    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def psnr(ours, theirs):
    return 10 * np.log10(255**2 / max(np.mean((np.float64(ours) - theirs) ** 2), 1e-9))


@pytest.mark.parametrize(("name", "distance"), [("x.gif", 40), ("x.webp", 25), ("x-moving.png", 90)])
def test_an_animation_ends_with_the_picture(sdrt_main, tmp_path, name, distance):
    """Within 256 colours; with colours at half the resolution, as WebP has them; exactly."""
    plain = sdrt_main(*RUN)
    result = sdrt_main(*RUN, "--gif", name)
    assert result.out.split() == ["x-1.png", name]
    assert pixels_of("x-1.png").tobytes() == pixels_of("x.png").tobytes()
    frames = frames_of(name)
    assert len(frames) == 6
    assert psnr(frames[-1], pixels_of("x.png")) > distance
    assert psnr(frames[0], pixels_of("x.png")) < 30
    with Image.open(name) as image:
        image.seek(5)
        assert image.info["loop"] == 0
    assert plain.code == result.code == 0


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x-moving.png"])
def test_an_animation_says_how_its_picture_was_made(sdrt_main, name):
    assert sdrt_main(*RUN, "--gif", name, "-n", "2").code == 0
    said = read_texts(Path(name))
    assert parse_parameters(said.texts["parameters"])["Seed"] == "1"
    assert ("sdrt" in said.texts) == (name != "x.gif")
    assert said.pixels is None  # its first frame is not the picture
    again = sdrt_main("generate", "--from", name, "-o", "again.png")
    assert again.code == 0, again.err
    np.testing.assert_array_equal(pixels_of("again.png"), pixels_of("x.png"))


def test_any_other_comment_of_a_gif_is_none(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.gif", comment=b"made with another program\n\xff")
    assert read_texts(tmp_path / "x.gif").texts == {}


@pytest.mark.parametrize(("every", "count"), [("1", 6), ("2", 3), ("4", 2), ("9", 1)])
def test_every(sdrt_main, every, count):
    """A frame for each so many evaluations before the last, and the picture."""
    assert sdrt_main(*RUN, "--gif", "x.gif", "--every", every).code == 0
    assert len(frames_of("x.gif")) == count


def test_how_long_frames_are_shown(tmp_path):
    shown = [np.full((8, 8, 3), level, np.uint8) for level in range(0, 200, 10)]
    with Image.open(save_animation(shown, tmp_path / "x.gif")) as image:
        times = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert times == [160] * 19 + [2000]
    with Image.open(save_animation(shown, tmp_path / "x.gif", seconds=0.1, held=0.1)) as image:
        assert image.filename.endswith("x-1.gif")
        assert {frame.info["duration"] for frame in ImageSequence.Iterator(image)} == {100}


def test_a_gif_has_no_dithering(tmp_path):
    """What is one colour stays one, in more colours than a palette has."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (32, 32, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    for shown in frames_of(save_animation([frame, frame[::-1]], tmp_path / "x.gif")):
        cells = shown.reshape(32, 8, 32, 8, 3)
        assert (cells == cells[:, :1, :, :1]).all()


def test_frames_as_files(sdrt_main, tmp_path):
    assert sdrt_main(*RUN, "--frames-dir", "frames").out == "x.png\n"
    assert names("frames") == [f"step-00{k}.png" for k in range(1, 7)]
    np.testing.assert_array_equal(pixels_of("frames/step-006.png"), pixels_of("x.png"))
    assert psnr(pixels_of("frames/step-005.png"), pixels_of("x.png")) > 25
    assert sdrt_main(*RUN, "--frames-dir", "two", "-n", "2", "--every", "3").code == 0
    for number, name in (("1", "x-1.png"), ("2", "x-2.png")):
        assert names(f"two/{number}") == ["step-003.png", "step-006.png"]
        np.testing.assert_array_equal(pixels_of(f"two/{number}/step-006.png"), pixels_of(name))


def test_several_pictures_have_animations_of_their_own(sdrt_main):
    """Also where sizes and steps differ, so that they are not made in the order they were asked for."""
    settings = ("--y", "width=64,72", "--x", "steps=6,9", "-o", "{x}-{y}.png", "--gif", "x.gif")
    result = sdrt_main("generate", PROMPT, "--seed", "2", *settings)
    assert result.code == 0, result.err
    pictures = [f"{x}-{y}.png" for y in ("64", "72") for x in ("6", "9")]
    animations = ["x.gif", "x-1.gif", "x-2.gif", "x-3.gif"]
    assert result.out.split() == [*pictures, "grid.png", *animations]
    for picture, animation in zip(pictures, animations, strict=True):
        frames = frames_of(animation)
        assert len(frames) == int(picture[0])
        nearness = {name: psnr(frames[-1], pixels_of(name)) for name in pictures if name[2:] == picture[2:]}
        assert max(nearness, key=nearness.__getitem__) == picture
        assert nearness[picture] > 40  # in the 256 colours of a GIF


def test_interpolation_is_one_animation(sdrt_main):
    args = ("generate", "--interpolate", "a red circle", "a blue square", "--frames", "4", "--seed", "1")
    args = (*args, "--steps", "2", "-o", "{frame}.png", "--gif", "x.gif")
    assert sdrt_main(*args).out.split() == ["1.png", "2.png", "3.png", "4.png", "x.gif"]
    Path("3.png").unlink()
    assert sdrt_main(*args, "--resume").out.split()[-1] == "x-1.gif"
    for animation in ("x.gif", "x-1.gif"):
        frames = frames_of(animation)
        assert len(frames) == 4
        for number, frame in enumerate(frames, 1):
            assert psnr(frame, pixels_of(f"{number}.png")) > 30


def test_preview(sdrt_main, monkeypatch, tmp_path):
    """Whole whenever it is looked at, and in the end it is the picture."""
    seen, write = [], PreviewFile.write

    def looked_at(self, pictures, says):
        write(self, pictures, says)
        with Image.open("live.png") as image:
            image.load()
            seen.append((image.size, image.info["sdrt-preview"]))
        self._next = 0.0  # as if it had taken long

    monkeypatch.setattr(PreviewFile, "write", looked_at)
    for _ in range(2):  # the second run replaces what the first one left
        seen.clear()
        assert sdrt_main(*RUN, "--preview", "live.png", "-n", "2").code == 0
        steps = [f"evaluation {k} of 6" for k in range(1, 6)]
        assert seen == [((128, 64), text) for text in (*steps, "finished")]
    pictures = [pixels_of("x-2.png"), pixels_of("x-3.png")]
    np.testing.assert_array_equal(pixels_of("live.png"), np.concatenate(pictures, axis=1))
    assert not list(tmp_path.glob(".*"))


def test_preview_of_a_larger_picture_is_not_decoded(sdrt_main, monkeypatch):
    decoded = []
    monkeypatch.setattr("sdrt.pictures.Progress.predictions", lambda self: decoded.append(self.done))
    size = ("-W", "128", "-H", "136")
    assert sdrt_main(*RUN, *size, "--preview", "live.png").code == 0
    assert decoded == []
    np.testing.assert_array_equal(pixels_of("live.png"), pixels_of("x.png"))


def test_preview_is_not_written_more_often_than_seen(tmp_path):
    preview = PreviewFile(tmp_path / "live.png")
    assert preview.is_due
    preview.write([np.zeros((8, 8, 3), np.uint8)], "evaluation 1 of 2")
    assert not preview.is_due


def test_preview_that_became_something_else(tmp_path):
    preview = PreviewFile(tmp_path / "live.png")
    preview.check()
    (tmp_path / "live.png").write_text("mine")
    with pytest.raises(InputError, match="is no preview of an earlier run"):
        preview.write([np.zeros((8, 8, 3), np.uint8)], "evaluation 1 of 2")
    assert (tmp_path / "live.png").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--gif", "x.mp4"), ("x.mp4 is not a GIF, WEBP or PNG name",)),
        (("--gif", "folder"), ("folder is a directory", "picture.gif")),
        (("--gif", "no/x.gif"), ("there is no folder no", "mkdir -p no")),
        (("--gif", "/proc/x.gif"), ("cannot write to /proc", "--gif")),
        (("--frames-dir", "full"), ("full is not empty", "--frames-dir")),
        (("--frames-dir", "file"), ("file cannot be a folder of frames", "--frames-dir")),
        (("--frames-dir", "no/frames"), ("there is no folder no",)),
        (("--preview", "mine.png"), ("mine.png is no preview of an earlier run", "--preview")),
        (("--preview", "picture.png"), ("picture.png is no preview of an earlier run",)),
        (("--preview", "x.jpg"), ("x.jpg is not a PNG name",)),
        (("--every", "2"), ("--every", "--gif")),
        (("--decoded",), ("--decoded", "--preview")),
        (("--gif", "x.gif", "--every", "0"), ("--every",)),
        (
            ("--gif", "x.gif", "-W", "2048", "-H", "2048", "--steps", "200", "-n", "4"),
            ("10 GB of memory", "--every 3"),
        ),
    ],
)
def test_what_cannot_be_watched_is_refused_before_any_work(
    refused, graphs_stay_closed, tmp_path, options, says
):
    for folder in ("folder", "full"):
        (tmp_path / folder).mkdir()
    for file in ("file", "mine.png", "full/step-001.png"):
        (tmp_path / file).write_text("mine")
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    refused("generate", "a cat", *options, says=says)


def test_no_map_to_rgb_is_said_before_any_work(refused, graphs_stay_closed, bundle, edit_manifest):
    edit_manifest(lambda fields: fields["vae"].pop("latent_rgb"))
    args = ("generate", "a cat", "-m", str(bundle))
    refused(*args, "--preview", "live.png", "-W", "320", says=("no map from latents to RGB", "--decoded"))
    refused(*args, "--gif", "x.gif", "--projected", says=("no map from latents to RGB", "export it again"))


def test_interrupted_run_leaves_whole_frames_and_no_animation(sdrt_main, monkeypatch):
    write = FrameFolder.write

    def interrupted(self, number, step, pixels):
        write(self, number, step, pixels)
        if step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(FrameFolder, "write", interrupted)
    result = sdrt_main(*RUN, "--frames-dir", "frames", "--gif", "x.gif")
    assert (result.code, result.out) == (130, "")
    assert names(".") == ["frames"]
    assert names("frames") == ["step-001.png", "step-002.png", "step-003.png"]
    assert pixels_of("frames/step-003.png").shape == (64, 64, 3)
