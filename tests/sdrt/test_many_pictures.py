"""`sdrt generate` with many pictures: files of prompts, names, comparisons, sheets, runs that go on."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sdrt.cli.progress_bar import TimeLeft
from sdrt.metadata.image_texts import read_texts

SMALL = ("-W", "32", "-H", "32", "--steps", "2")


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def said(path):
    return json.loads(read_texts(Path(path)).texts["sdrt"])


def hashes(folder):
    """Each picture with what its pixels are."""
    found = sorted(path for path in folder.rglob("*.*") if path.suffix in {".png", ".jpg", ".webp"})
    return {
        str(path.relative_to(folder)): hashlib.sha256(pixels(path).tobytes()).hexdigest() for path in found
    }


class TestPrompts:
    def test_settings_of_a_line_go_before_those_of_all(self, sdrt_main, tmp_path):
        (tmp_path / "p.csv").write_text("prompt,steps,guidance,seed\na star,3,,5\na cross,,1,\n")
        result = sdrt_main("generate", "--prompts", "p.csv", *SMALL, "--seed", "9", "-N", "blue")
        assert (result.code, result.out) == (0, "a-star.png\na-cross.png\n")
        star, cross = said("a-star.png"), said("a-cross.png")
        assert [star[key] for key in ("steps", "seed", "negative_prompt")] == [3, 5, "blue"]
        assert [cross[key] for key in ("steps", "seed", "guidance_scale")] == [2, 9, 1.0]

    def test_pictures_are_what_they_are_alone(self, sdrt_main, tmp_path):
        (tmp_path / "p.txt").write_text("a star --seed 3\na cross --seed 4 --sampler euler_a\n")
        sdrt_main("generate", "--prompts", "p.txt", *SMALL, "-o", "{index}.png")
        sdrt_main("generate", "a cross", "--seed", "4", "--sampler", "euler_a", *SMALL, "-o", "alone.png")
        np.testing.assert_array_equal(pixels("2.png"), pixels("alone.png"))
        assert not np.array_equal(pixels("1.png"), pixels("2.png"))

    @pytest.mark.parametrize(
        "lines", ["a star\n" * 10_001, "a star --count 100\n" * 101], ids=["lines", "counts"]
    )
    def test_more_than_a_run_may_have(self, refused, tmp_path, lines):
        (tmp_path / "p.txt").write_text(lines)
        refused("generate", "--prompts", "p.txt", says=("more than 10000 pictures", "--no-limits"))

    def test_folders_are_looked_at_once_and_names_each(self, refused, tmp_path):
        (tmp_path / "p.csv").write_text("prompt,name\na,one\nb,two\nc,three\n")
        (tmp_path / "c.png").mkdir()
        refused("generate", "--prompts", "p.csv", "-o", "{prompt}.png", says=("unknown setting 'name'",))
        (tmp_path / "p.csv").write_text("prompt\na\nb\nc\n")
        refused("generate", "--prompts", "p.csv", "-o", "{prompt}.png", says=("c.png is a directory",))
        refused("generate", "--prompts", "p.csv", "-o", "d/{prompt}.png", says=("there is no folder d",))

    def test_standard_input(self, tmp_path):
        command = [sys.executable, "-m", "sdrt", "generate", "--prompts", "-", *SMALL, "--json"]
        lines = '{"prompt": "a star", "seed": 1, "count": 2}\n{"prompt": "a cross"}\n'
        done = subprocess.run(command, cwd=tmp_path, input=lines, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        first, second, third = json.loads(done.stdout)["pictures"]
        assert (first["path"], first["seed"], first["request"]["prompt"]) == ("a-star.png", 1, "a star")
        assert (second["path"], second["seed"]) == ("a-star-1.png", 2)
        assert third["request"]["prompt"] == "a cross"

    @pytest.mark.parametrize(
        ("lines", "args", "says"),
        [
            ("a\nb --steps 0", (), ("p.txt, line 2: steps is 0; expected 1 or more",)),
            ("a\nb --sampler eular", (), ("p.txt, line 2: unknown sampler 'eular'; did you mean euler",)),
            ("a --count 101", (), ("p.txt, line 1: count is 101, the limit is 100",)),
            ("a\n" * 101, ("-n", "100"), ("more than 10000 pictures", "--no-limits")),
            ("a", ("-o", "{indx}.png"), ("unknown field in the name of the output 'indx'", "index")),
            ("a", ("-o", "none/{index}.png"), ("there is no folder none", "mkdir -p none")),
            ("a", ("--grid", "none/g.png"), ("there is no folder none",)),
            ("a", ("--x", "steps=1"), ("--prompts and axes exclude each other",)),
            ("a", ("--grid-columns", "2"), ("--grid-columns is for --grid",)),
            ("a", ("--resume", "-o", "{seed}.png"), ("{seed} is another in each run", "--seed")),
            ("a", ("a cat",), ("PROMPT and --prompts exclude each other",)),
        ],
    )
    def test_all_is_checked_before_any_work(self, refused, graphs_stay_closed, tmp_path, lines, args, says):
        (tmp_path / "p.txt").write_text(lines)
        refused("generate", "--prompts", "p.txt", *args, says=says)


class TestNames:
    def test_folders_of_fields_are_made(self, sdrt_main, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "p.csv").write_text("prompt,title,seed\na star,../../One,1\na cross,/two,2\n")
        result = sdrt_main(
            "generate",
            "--prompts",
            "p.csv",
            *SMALL,
            "-o",
            "out/{title}/{line}-{index:03}-{seed}-{prompt}.png",
        )
        assert result.out.split() == ["out/one/2-001-1-a-star.png", "out/two/3-002-2-a-cross.png"]
        assert {*hashes(tmp_path)} == {*result.out.split()}

    def test_a_file_in_the_place_of_a_folder(self, sdrt_main, tmp_path):
        (tmp_path / "ddim").write_text("mine")
        result = sdrt_main("generate", "a star", *SMALL, "--sampler", "ddim", "-o", "{sampler}/x.png")
        assert (result.code, result.out) == (2, "")
        assert "cannot write" in result.err


class TestComparison:
    def test_every_value_of_x_with_every_one_of_y(self, sdrt_main, tmp_path):
        args = ("--x", "sampler=ddim,DPM++ 2M Karras", "--y", "steps=1-3:2", "-W", "32", "-H", "32")
        result = sdrt_main("generate", "a star", *args)
        names = [f"a-star-{x}-{y}.png" for y in (1, 3) for x in ("ddim", "dpm-2m-karras")]
        assert result.out.split() == [*names, "grid.png"]
        made = [said(name) for name in names]
        assert [(one["sampler"], one["sigma_schedule"], one["steps"]) for one in made] == [
            (*sampler, steps) for steps in (1, 3) for sampler in (("ddim", "plain"), ("dpmpp_2m", "karras"))
        ]
        assert len({one["seed"] for one in made}) == 1, "a random seed is the same for all of them"
        sheet = pixels("grid.png")
        corners = [corner_of(pixels(name), sheet) for name in names]
        (left, top), (right, bottom) = corners[0], corners[3]
        assert corners == [(left, top), (right, top), (left, bottom), (right, bottom)]

    def test_words_of_the_prompt(self, sdrt_main):
        args = ("--y", "replace=red,blue", "--seed", "1", "--grid", "compared.png", *SMALL)
        result = sdrt_main("generate", "a red star", *args)
        assert result.out.split() == ["a-red-star.png", "a-blue-star.png", "compared.png"]

    def test_prompts_as_an_axis_need_no_other(self, sdrt_main):
        result = sdrt_main("generate", "--x", 'prompt=a star,"a cross, blue"', "--seed", "1", *SMALL)
        assert result.out.split() == ["a-star.png", "a-cross-blue.png", "grid.png"]

    def test_limit_of_the_product(self, refused, graphs_stay_closed):
        axes = ("--x", "seed=1-11", "--y", "steps=1-10")
        refused("generate", "a", *axes, says=("11 x 10 are 110 pictures, the limit is 100", "--no-limits"))

    @pytest.mark.parametrize(
        ("args", "says"),
        [
            (("--x", "steps=1,0"), ("steps=0: steps is 0; expected 1 or more",)),
            (("--x", "steps=1", "--y", "sampler=ddim,eular"), ("steps=1, sampler=eular: unknown sampler",)),
            (("--x", "steps=1", "--y", "steps=2"), ("both axes are steps",)),
            (("--x", "steps=1,2", "-n", "2"), ("one picture of each kind", "--y seed=1-4")),
            (("--x", "steps=1,2", "--resume"), ("has one seed", "--seed")),
            (("--x", "replace=blue,red"), ("'blue' is in no prompt",)),
        ],
    )
    def test_wrong_axes_are_refused_before_any_work(self, refused, graphs_stay_closed, args, says):
        refused("generate", "a star", *args, says=says)


def corner_of(picture, sheet):
    """Where on a sheet a picture is, whole."""
    height, width = picture.shape[:2]
    for y, x in np.argwhere((sheet == picture[0, 0]).all(axis=-1)):
        if np.array_equal(sheet[y : y + height, x : x + width], picture):
            return int(x), int(y)
    raise AssertionError("it is not there")


def test_a_sheet_of_all_pictures(sdrt_main):
    args = ("--seed", "1", "-n", "5", "--grid", "all.png", "--grid-columns", "2", "-o", "x.png", *SMALL)
    *names, sheet = sdrt_main("generate", "a star", *args).out.split()
    corners = [corner_of(pixels(name), pixels(sheet)) for name in names]
    assert len(names) == 5
    assert [len({corner[axis] for corner in corners}) for axis in (0, 1)] == [2, 3]


class TestResume:
    LINES = "a star --count 2\na cross --sampler euler_a\na ring --seed 9\n"
    ARGS = ("generate", "--prompts", "p.txt", *SMALL, "--seed", "4", "--grid", "all.png", "--resume")

    @pytest.mark.parametrize("names", [(), ("-o", "{prompt}/{seed}.jpg"), ("-o", "x.webp")])
    def test_a_run_that_goes_on_gives_what_one_run_gives(self, sdrt_main, tmp_path, monkeypatch, names):
        for folder in ("once", "again"):
            (tmp_path / folder).mkdir()
            monkeypatch.chdir(tmp_path / folder)
            Path("p.txt").write_text(self.LINES)
            whole = sdrt_main(*self.ARGS, *names).out
        *paths, sheet = whole.split()
        kept = Path(paths[0])
        made = kept.stat().st_mtime_ns
        for name in (*paths[1:3], sheet):
            Path(name).unlink()
        # as if it had been killed while it was writing in place, as other programs do
        content = Path(paths[3]).read_bytes()
        Path(paths[3]).write_bytes(content[: len(content) // 2])
        result = sdrt_main(*self.ARGS, *names)
        assert result.code == 0, result.err
        assert kept.stat().st_mtime_ns == made
        broken = Path(result.out.split()[3])
        assert broken != Path(paths[3]), "no file is ever overwritten, not even one that is broken"
        broken.replace(paths[3])
        assert hashes(tmp_path / "again") == hashes(tmp_path / "once")

    def test_nothing_is_left_to_make(self, sdrt_main, tmp_path, pipeline, monkeypatch):
        (tmp_path / "p.txt").write_text(self.LINES)
        first = sdrt_main(*self.ARGS)
        before = hashes(tmp_path)
        monkeypatch.setattr("sdrt.denoise.Denoising.__iter__", lambda self: pytest.fail("it was made again"))
        assert sdrt_main(*self.ARGS).out == first.out
        answer = json.loads(sdrt_main(*self.ARGS, "--json").out)
        assert [picture["was_there"] for picture in answer["pictures"]] == [True] * 4
        assert hashes(tmp_path) == before

    def test_pictures_with_other_settings_stay_and_do_not_count(self, sdrt_main, tmp_path):
        args = ("generate", "a star", *SMALL, "-o", "x.png", "--resume")
        sdrt_main(*args, "--seed", "1")
        assert sdrt_main(*args, "--seed", "2").out == "x-1.png\n"
        assert sdrt_main(*args, "--seed", "2").out == "x-1.png\n"
        assert sdrt_main(*args, "--seed", "1", "--guidance", "5").out == "x-2.png\n"

    def test_without_a_seed_any_will_do(self, sdrt_main, tmp_path):
        args = ("generate", "a star", *SMALL, "-n", "2", "-o", "x.png", "--resume")
        sdrt_main(*args[:-1])
        answer = json.loads(sdrt_main(*args, "--json").out)
        assert [picture["seed"] for picture in answer["pictures"]] == [
            said("x.png")["seed"],
            said("x-1.png")["seed"],
        ]
        assert all(picture["was_there"] for picture in answer["pictures"])

    def test_interrupted_runs_go_on(self, sdrt_main, tmp_path, monkeypatch):
        (tmp_path / "p.txt").write_text("".join(f"a star --seed {i}\n" for i in range(20)))
        args = ("generate", "--prompts", "p.txt", *SMALL, "-o", "{seed:02}.png", "--resume")

        @contextmanager
        def interrupting(requests):
            def on_step(at):
                if (at.first, at.done) == (8, 1):
                    raise KeyboardInterrupt

            yield on_step

        with monkeypatch.context() as patch:
            patch.setattr("sdrt.cli.generate.progress_bar", interrupting)
            result = sdrt_main(*args)
        names = [f"{i:02}.png" for i in range(20)]
        assert (result.code, result.out.split()) == (130, names[:8])
        there = hashes(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [*names[:8], "p.txt"]
        assert sdrt_main(*args).out.split() == names
        after = hashes(tmp_path)
        assert list(after) == names
        assert there.items() <= after.items()


def test_time_left():
    """From the steps and pixels of each picture, so that few steps and many are told apart."""

    def request(steps, size=64):
        return SimpleNamespace(width=size, height=size, steps=steps, start_step=0, count=1)

    @dataclass
    class At:
        requests: tuple
        done: int
        evaluations: int = 10

    few, many, large = request(10), request(30), request(10, 128)
    left = TimeLeft([few, many, large])
    assert left.told(At((few,), 0), 100.0) == ""
    assert left.told(At((few,), 5), 101.0) == "15 s left"
    assert left.told(At((few,), 10), 102.0) == "14 s left"
    assert left.told(At((many,), 0), 102.0) == "14 s left"
    assert left.told(At((many,), 5), 222.0) == "4 min left"
    assert left.told(At((many,), 5), 20_000.0) == "12 h 10 min left"
