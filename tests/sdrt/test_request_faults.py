"""Requests that cannot be, or are most likely mistakes, are refused before a graph is opened."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.bundle import DEMO
from sdrt.errors import InputError
from sdrt.manifest import FILE_NAME, read
from sdrt.request import MAX_COUNT, MAX_STEPS, resolve_request


@pytest.fixture
def refuses(refused, graphs_stay_closed):
    def run(*args, says):
        return refused("generate", "a cat", *args, says=says)

    return run


@pytest.mark.parametrize("side", ["width", "height"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0, "the smallest is 8"),
        (-64, "the smallest is 8"),
        (7, "the smallest is 8"),
        (100, "not a multiple of 8; the nearest are 96 and 104"),
        (65, "not a multiple of 8; the nearest are 64 and 72"),
    ],
)
def test_sizes(refuses, side, value, says):
    refuses(f"--{side}", str(value), says=(f"{side} is {value}", says))


@pytest.mark.parametrize("count", [0, -1])
@pytest.mark.parametrize("option", ["steps", "count"])
def test_too_few(refuses, option, count):
    refuses(f"--{option}", str(count), says=(f"{option} is {count}; expected 1 or more",))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("-W", "4096", "-H", "4096"), ("4096x4096", "the limit is 4194304")),
        (("-W", "8000000000", "-H", "8"), ("8000000000x8", "the limit is")),
        (("--steps", "250"), ("steps is 250", "the limit is 200")),
        (("--steps", str(10**20)), (f"steps is {10**20}", "the limit is 200")),
        (("-n", "101"), ("count is 101", "the limit is 100")),
    ],
)
def test_limits(refuses, args, says):
    refuses(*args, says=(*says, "--no-limits"))


def test_no_limits_lifts_them(sdrt_main, tmp_path):
    args = ("--steps", "250", "--no-limits", "--seed", "1", "-o", "x.png")
    assert sdrt_main("generate", "a cat", *args).code == 0
    assert (tmp_path / "x.png").is_file()


def test_at_the_limit():
    manifest = read(DEMO / FILE_NAME)
    request = resolve_request(manifest, "x", width=2048, height=2048, steps=MAX_STEPS, count=MAX_COUNT)
    assert (request.steps, request.count) == (200, 100)


def test_no_limits_does_not_lift_what_the_schedule_holds(refuses):
    refuses("--steps", "1000", "--no-limits", says=("steps is 1000; expected 1 to 999",))


def test_size_that_no_memory_holds(refused):
    size = ("-W", "8000000000", "-H", "8000000000", "--no-limits")
    refused("generate", "a cat", *size, code=1, says=("out of memory", "lower the size or the count"))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_guidance(refuses, value):
    refuses("--guidance", value, says=(f"guidance is {value}; expected a finite number",))


def test_guidance_beyond_what_the_network_bears(refused):
    line = refused("generate", "a cat", "-g", "1e308", code=1, says=("NaN or Inf", "less guidance"))
    assert "unet" in line


@pytest.mark.parametrize(
    "interval", [("0.5", "0.5"), ("0.6", "0.2"), ("-0.1", "1"), ("0", "1.5"), ("nan", "1")]
)
def test_guidance_interval(refuses, interval):
    refuses("--guidance-interval", *interval, says=("the guidance interval is", "such as 0 to 0.6"))


@pytest.mark.parametrize(
    ("interval", "says"),
    [
        ("0", "deep cache is 0; expected 1 or more"),
        ("-2", "deep cache is -2; expected 1 or more"),
        ("3", "demo has no shallow U-Net; export it again with --deep-cache, or leave --deep-cache 3 out"),
    ],
)
def test_deep_cache(refuses, interval, says):
    refuses("--deep-cache", interval, says=(says,))


@pytest.mark.parametrize("seed", [-2, 2**64])
def test_seed(refuses, seed):
    refuses("--seed", str(seed), says=(f"seed is {seed}; expected 0 to {2**64 - 1}, or -1",))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--sampler", "eulr"), ("unknown sampler 'eulr'", "did you mean euler")),
        (("--sampler", "DPM2M"), ("unknown sampler 'DPM2M'", "dpmpp_2m")),
        (("--sampler", "zzz"), ("unknown sampler 'zzz'", "ddim")),
        (("--backend", "onnx"), ("unknown backend 'onnx'", "did you mean onnxruntime or openvino")),
        (("-m", "dem"), ("unknown model 'dem'", "did you mean demo?")),
        (("-m", "no/such/folder"), ("there is no bundle at no/such/folder", "sdrt export")),
        (("-m", "x" * 300), ("there is no bundle at xxx",)),
        (("-m", "."), (". is no bundle", FILE_NAME, "sdrt export")),
        (("--karras", "--sampler", "ddim"), ("DDIM has no Karras noise levels",)),
        (("--steps", "many"), ("--steps", "'many' is not a valid integer", "sdrt generate --help")),
        (("--spacing", "wide"), ("--spacing", "leading", "sdrt generate --help")),
        (("--no-such-option",), ("--no-such-option", "sdrt generate --help")),
    ],
)
def test_names(refuses, args, says):
    refuses(*args, says=says)


def test_names_of_exported_bundles_are_known(refuses, bundle, tmp_path):
    (tmp_path / "engines").mkdir()
    bundle.rename(tmp_path / "engines" / "landscapes")
    refuses("-m", "landscape", says=("unknown model 'landscape'", "did you mean landscapes"))


def test_exported_bundle_by_name(sdrt_main, bundle, tmp_path):
    (tmp_path / "engines").mkdir()
    bundle.rename(tmp_path / "engines" / "mine")
    assert sdrt_main("generate", "a cat", "-m", "mine", "--steps", "1").out == "a-cat.png\n"


def test_names_in_other_commands(refused, graphs_stay_closed):
    refused("info", "nothing.png", says=("nothing.png",))
    refused("samplers", "eulr", says=("unknown sampler 'eulr'",))
    refused("verify", "dem", says=("unknown model 'dem'",))


class TestPrompts:
    def test_lone_surrogate(self, refused, run_sdrt):
        says = ("not valid Unicode", "position 0")
        refused("generate", b"\xff cat", program=run_sdrt, says=says)

    def test_lone_surrogate_in_the_negative_prompt(self, refused, run_sdrt):
        refused(
            "generate", "cat", "-N", b"a \xff", program=run_sdrt, says=("not valid Unicode", "position 2")
        )

    @pytest.mark.parametrize("prompt", ["a\ud800b", "\udfff"])
    def test_lone_surrogate_in_python(self, pipeline, prompt):
        with pytest.raises(InputError, match="not valid Unicode"):
            pipeline.generate(prompt, steps=1)

    @pytest.mark.parametrize(
        "prompt",
        [
            "",
            " \t\n",
            "קוף אדום על רקע כחול",
            "\u202eright to left override",
            "🐸" * 3,
            "👩\u200d👩\u200d👧 family",
            "e\u0301 combining",
            "\ufffe\uffff",
            "<|endoftext|><|startoftext|>",
            "(((((((((([[[[",
        ],
    )
    def test_any_text_works(self, sdrt_main, tmp_path, prompt):
        result = sdrt_main("generate", "--steps", "1", "-o", "x.png", "--", prompt)
        assert (result.code, result.out, result.err) == (0, "x.png\n", "")
        assert (tmp_path / "x.png").is_file()

    def test_nul(self, pipeline):
        (picture,) = pipeline.generate("a\0b", steps=1, seed=1)
        assert picture.request.prompt == "a\0b"

    def test_nothing_of_a_long_prompt_is_cut(self, run_sdrt, pipeline):
        """88 kB, some 300 windows of the text encoder; its last word shows in the picture."""
        room = read(DEMO / FILE_NAME).text[0].max_length - 2
        long = "x " * room + "zq, a dog " + "and more " * 9_000
        result = run_sdrt("generate", long, "--steps", "1", "-o", "x.png")
        assert (result.code, result.out, result.err) == (0, "x.png\n", "")
        ends = [pipeline.generate("x " * room + last, steps=1, seed=1)[0].pixels for last in ("red", "blue")]
        assert not np.array_equal(*ends)

    def test_too_long_a_prompt_is_refused(self, pipeline):
        with pytest.raises(InputError, match="the prompt fills more than 512 windows"):
            pipeline.generate("red, " * 60_000, steps=1)

    def test_too_long_a_negative_prompt_is_refused(self, pipeline):
        with pytest.raises(InputError, match="the negative prompt fills more than 512 windows"):
            pipeline.generate("red", negative_prompt="red, " * 60_000, steps=1)

    def test_the_negative_prompt_is_read_before_graphs_are_loaded(self, refused, graphs_stay_closed):
        refused("generate", "cat", "-N", "(dog:nan)", says=("the negative prompt has a weight of nan",))

    @pytest.mark.parametrize("asked", ["0", "-1", "4", "99"])
    def test_clip_skip(self, refused, graphs_stay_closed, asked):
        refused("generate", "cat", "--clip-skip", asked, says=(f"clip skip is {asked}; expected 1 to 3",))

    def test_unknown_syntax_in_python(self, pipeline):
        with pytest.raises(InputError, match="unknown prompt syntax 'a111'; did you mean a1111"):
            pipeline.generate("a cat", prompt_syntax="a111")

    @pytest.mark.parametrize(
        ("prompt", "words"),
        [
            ("(a:1" + "0" * 400 + ")", "has a weight of inf"),
            ("[" * 101 + "a" + "]" * 101, "opens more than 100 brackets"),
            ("[" + "|".join("a" * 11_000) + "]", "more than 10000 brackets"),
            (" AND ".join("a" * 101), "101 parts joined by AND"),
            ("cat AND dog :1000001", "has a weight of 1e+06"),
            ("a" * 1_000_001, "1000001 characters"),
            ("a" * 600_000 + "[b|c]", "changes so often"),
        ],
    )
    def test_what_passes_a_bound_is_refused_before_graphs_are_loaded(
        self, refused, graphs_stay_closed, prompt, words
    ):
        refused("generate", prompt, says=(words,))
