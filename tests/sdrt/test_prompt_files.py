"""Files of prompts: what their lines ask for, and what is said of those that are wrong."""

from __future__ import annotations

import io
import json
import sys

import pytest

from sdrt.errors import InputError
from sdrt.many.prompt_files import STANDARD_INPUT, read_prompts


@pytest.fixture
def read(tmp_path):
    """The settings of each line, by its number."""

    def read(name, text, columns=()):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return {line.number: dict(line.settings) for line in read_prompts(path, columns)}

    return read


def test_text(read):
    """A prompt on each line; comments and blank lines are none."""
    lines = "\ufeff# first\na red circle, large\r\n\n   \n  # no\na -- b --- c\na cat's eye #1\n"
    assert read("p.txt", lines) == {
        2: {"prompt": "a red circle, large"},
        6: {"prompt": "a -- b --- c"},
        7: {"prompt": "a cat's eye #1"},
    }


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        # as AUTOMATIC1111's script "Prompts from file or textbox" takes them
        (
            '--prompt "photo of sunset" --negative_prompt "orange, pink" --width 72 --height 80 --steps 7 '
            '--cfg_scale 2.5 --sampler_name "Euler a" --seed 9',
            {
                "prompt": "photo of sunset",
                "negative_prompt": "orange, pink",
                "width": 72,
                "height": 80,
                "steps": 7,
                "guidance_scale": 2.5,
                "sampler": "Euler a",
                "seed": 9,
            },
        ),
        # it gathers the words of prompts that stand in no quotes
        (
            "--prompt a red cat --negative_prompt blue sky",
            {"prompt": "a red cat", "negative_prompt": "blue sky"},
        ),
        # as on the command line
        (
            "a cat --negative blue --guidance=3",
            {"prompt": "a cat", "negative_prompt": "blue", "guidance_scale": 3},
        ),
        ("a cat --guidance-interval 0 0.6", {"prompt": "a cat", "guidance_interval": (0.0, 0.6)}),
        ("a cat --schedule-type Karras", {"prompt": "a cat", "schedule": "Karras"}),
        (
            '--prompt "a cat" --batch_size 2 --n_iter 3 --subseed 4 --subseed_strength 0.5 '
            "--outpath_samples x --do_not_save_grid true --restore_faces false "
            "--tiling false --seed_resize_from_w -1",
            {"prompt": "a cat", "count": 6, "variation_seed": 4, "variation_strength": 0.5},
        ),
        ("a cat --batch_size 4", {"prompt": "a cat", "count": 4}),
        ("a cat --sigmas 10,3,0", {"prompt": "a cat", "sigmas": (10.0, 3.0, 0.0)}),
        ("a cat --seed -1", {"prompt": "a cat", "seed": -1}),
        ("--prompt 'a --steps 4' --steps 5", {"prompt": "a --steps 4", "steps": 5}),
        ("a cat --outpaint 8 --strength .5", {"prompt": "a cat", "outpaint": 8, "strength": 0.5}),
    ],
)
def test_options_of_a_line(read, line, settings):
    assert read("p.txt", line) == {1: settings}


def test_json_lines(read):
    lines = [
        {"prompt": "a cat", "steps": 5, "guidance": 2, "seed": None},
        {"prompt": "a dog\n", "guidance_interval": [0, 0.5], "Clip skip": "2"},
        {"blend": [["a cat", 1], ["a dog", 0.5]]},
    ]
    assert read("p.jsonl", "\n\n".join(map(json.dumps, lines))) == {
        1: {"prompt": "a cat", "steps": 5, "guidance_scale": 2.0},
        3: {"prompt": "a dog\n", "guidance_interval": (0.0, 0.5), "clip_skip": 2},
        5: {"blend": [("a cat", 1.0), ("a dog", 0.5)]},
    }


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables(read, separator):
    """Of any spreadsheet; an empty cell is a setting that is not given."""
    rows = [
        ["prompt", "Negative prompt", "CFG scale", "seed"],
        ['"a, b; ""c"""', "", "7.5", "1"],
        ["", "", "", ""],
        ['"two\nlines"', "blue", "", ""],
    ]
    assert read("p.CSV", "\r\n".join(map(separator.join, rows))) == {
        2: {"prompt": 'a, b; "c"', "guidance_scale": 7.5, "seed": 1},
        5: {"prompt": "two\nlines", "negative_prompt": "blue"},
    }


def test_columns_of_their_own(tmp_path):
    (tmp_path / "p.csv").write_text("prompt,title\na,One\nb,\n")
    first, second = read_prompts(tmp_path / "p.csv", {"title"})
    assert (first.columns, second.columns) == ({"title": "One"}, {})


@pytest.mark.parametrize("text", ["a cat --steps 3\n", ' \n{"prompt": "a cat", "steps": 3}'])
def test_standard_input_is_text_or_json(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    (line,) = read_prompts(STANDARD_INPUT)
    assert line.settings == {"prompt": "a cat", "steps": 3}
    assert line.where.startswith("standard input, line ")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("p.txt", "a\nb --step 4", "line 2: unknown setting 'step'; did you mean steps"),
        ("p.txt", "a --steps four", "line 1: steps is 'four'; expected a whole number"),
        ("p.txt", "a --sd_model x", "sd_model is of AUTOMATIC1111"),
        ("p.txt", "a --tiling true", "tiling is of AUTOMATIC1111"),
        ("p.txt", "a --spacing middle", "spacing is 'middle'; expected leading or trailing or linspace"),
        ("p.txt", "a --steps 4 --steps 5", "line 1: --steps is given twice"),
        ("p.txt", 'a --negative "b" c', "has text behind its quotes"),
        ("p.txt", "a --guidance 2 --cfg_scale 2", "guidance_scale is given twice, once as 'cfg_scale'"),
        ("p.txt", "a\n--steps 4", "line 2: there is no prompt; give it one"),
        ("p.txt", "# nothing", "has no prompts; write one on each line"),
        ("p.txt", b"a\nb\xff", "line 2: this is no UTF-8"),
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": ', "line 2: this is no JSON"),
        ("p.jsonl", '["a"]', r'expected an object, as {"prompt": "a cat"}'),
        ("p.jsonl", '{"prompt": "a", "steps": true}', "steps is True; expected a whole number"),
        ("p.jsonl", '{"prompt": ["a"]}', r"prompt is \['a'\]; expected text"),
        ("p.jsonl", "[" * 100_000, "line 1: this is no JSON"),
        ("p.csv", "prompt,steps\na,4,5", "line 2: 3 cells and a header of 2; put text"),
        ("p.csv", 'prompt,steps\n"a,4', "line 2: this is no CSV"),
        ("p.csv", "prompt,title\na,b", "line 2: unknown setting 'title'"),
        ("p.csv", "", "has no prompts"),
        ("p.doc", "a", r"expected .txt, .jsonl, .csv"),
    ],
)
def test_wrong_lines_are_named(read, name, text, says):
    with pytest.raises(InputError, match=says) as error:
        read(name, text)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_absent_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the prompts .*none\.txt.*: No such file"):
        read_prompts(tmp_path / "none.txt")
