"""Prompts, and files of them with settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import mutators
from fuzz_target import MANIFEST, SETTINGS, Target

from sdrt.bundle import DEMO
from sdrt.many.jobs import ask_lines, resolve_jobs
from sdrt.many.prompt_files import read_prompts
from sdrt.prompt import chunk_segments
from sdrt.request import resolve_request
from sdrt.tokenizer import PromptTokenizer

_PROMPT = (
    *("(", ")", "[", "]", ":", "|", "\\", ",", " AND ", " BREAK ", "AND", "BREAK", ":1.3)", ":0.5]"),
    *("[a:b:", "[a|b]", "((", "))", "[[", "]]", "\\(", "\\\\", "1e9", ":-1", ":nan", ":inf", ":1e400"),
    *(" ", "\n", "a", "red ", "::", "\t"),
)


def _prompt_seeds() -> list[bytes]:
    prompts = (
        "a large (red:1.3) circle on a [blue:green:0.5] background",
        "a circle AND a star :0.4 AND (a [square|triangle]:0.8)",
        "one BREAK two, three \\(four\\), [[five]], ((six))",
        "[a:[b:c:0.3]:5], [d::0.5] " + "word, " * 100,
        "漢字 😀 עברית it's",
    )
    return [prompt.encode() for prompt in prompts]


@cache
def _tokenizer() -> PromptTokenizer:
    return PromptTokenizer(DEMO / "tokenizer" / "tokenizer.json")


def _read_prompt(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    for syntax in ("a1111", "plain"):
        request = resolve_request(MANIFEST, text, negative_prompt=text, prompt_syntax=syntax, **SETTINGS)
        tokenizer, settings = _tokenizer(), MANIFEST.text[0]
        prompts = request.prompts()
        for part in (*prompts.parts, prompts.negative):
            for entry in part.schedule:
                chunk_segments(
                    entry.segments,
                    tokenizer.tokens,
                    settings,
                    words=tokenizer.words,
                    comma_id=tokenizer.comma_id,
                )


def _text_lines() -> list[bytes]:
    lines = [
        "# a comment",
        "a red star --steps 20 --seed 3 --cfg-scale 7.5",
        'a blue circle --negative_prompt "dull, grey" --sampler=Euler --width 128',
        "a (green:1.2) square --guidance-interval 0 0.5 --n_iter 2",
        "",
    ]
    return ["\n".join(lines).encode(), b"\xef\xbb\xbfa cat\r\na dog\r\n"]


def _json_lines() -> list[bytes]:
    objects = [
        {"prompt": "a red star", "steps": 20, "seed": 3, "name": "x"},
        {"prompt": "a", "guidance_interval": [0, 0.5], "sampler": "DPM++ 2M", "schedule_type": "Karras"},
        {"blend": [["a", 1], ["b", 0.5]], "width": "64", "count": 3},
        {"prompt": "b", "variation_seed": 2, "variation_strength": 0.5, "prompt_syntax": "plain"},
    ]
    return ["\n".join(map(json.dumps, objects)).encode()]


def _table() -> list[bytes]:
    rows = 'prompt,steps,seed,sampler\n"a red, large star",20,3,Euler a\na cat,,5,\n"a ""b"" c",3,1,ddim\n'
    return [rows.encode(), rows.replace(",", ";").encode(), rows.replace(",", "\t").encode()]


def _change_json_lines(content: bytes, random: Random) -> bytes:
    lines = content.split(b"\n")
    at = random.randrange(len(lines))
    lines[at : at + 1] = [mutators.json_(lines[at], random)] * random.choice((1, 1, 1, 500))
    return b"\n".join(lines)


_OPTIONS = (
    *(" --steps ", " --seed ", "--", " --", "=", '"', "'", "#", "\n", "\r\n", ",", ";", "\t"),
    *(" --width 64", '""', "a", " --sampler ", " --blend ", " --init-image ", " --no-limits"),
    *(" --count 3", " --prompt x", " --limits", " --manifest"),
)


def _read_prompt_file(path: Path) -> None:
    asked = ask_lines(read_prompts(path, ("name",)), {"prompt": "", "limits": True})
    pattern = Path("{index:04}-{prompt}-{sampler}-{line}.png")
    _, jobs = resolve_jobs(MANIFEST, asked, pattern)
    for job in jobs:
        if job.path.parent != Path():
            raise AssertionError(f"{job.path} lies in another folder")


def _file(name: str, seeds: Callable[[], list[bytes]], mutate: mutators.Mutate) -> Target:
    return Target(name=name, seeds=seeds, mutate=mutate, read=_read_prompt_file, reads_anywhere=True)


TARGETS = (
    Target(name="prompt", seeds=_prompt_seeds, mutate=mutators.words(_PROMPT), read=_read_prompt),
    _file("prompts.txt", _text_lines, mutators.words(_OPTIONS)),
    _file("prompts.jsonl", _json_lines, _change_json_lines),
    _file("prompts.csv", _table, mutators.words(_OPTIONS)),
)
