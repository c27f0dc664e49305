"""The quick form of the campaign, and whether it would find anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import campaign
import judge
import mutators
import pytest
from known import KNOWN
from targets import TARGETS
from worker import case, minimised

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="memory is read off Linux's /proc"
)

SEED = "quick"  # always the same cases: a change of the code is what makes the difference
CASES = 60


@pytest.mark.parametrize("target", TARGETS)
def test_changed_inputs_end_as_they_should(target, tmp_path):
    tally = campaign.fuzz(target, SEED, cases=CASES)
    assert tally.cases == CASES
    assert 0 < len(tally.refused) < CASES
    originals = range(len(TARGETS[target].originals))
    # pictures are read in several ways, and some say nothing of how they were made
    assert target == "picture.png" or not set(originals) & set(tally.refused)
    new = [one for one in tally.escapes.values() if one.known is None]
    for escape in new:
        campaign.keep(escape, campaign.ROOT / "build" / "fuzz")
    assert not new, "\n".join(campaign.report(escape, SEED) for escape in new)


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known.target}: {known.escape}")
def test_known_escapes_are_still_open(known):
    found = campaign.replay(known.target, known.reproducer)
    assert known.covers(known.target, found["escape"]), f"take it out of known.py: it ends in {found}"
    pytest.skip(f"known, still open: {known.why}")


@pytest.mark.parametrize("name", TARGETS)
def test_a_case_is_its_seed_and_number(name):
    target = TARGETS[name]
    assert [case(target, "a", number) for number in range(len(target.originals))] == target.originals
    first, again, other = (case(target, seed, 1_000) for seed in ("a", "a", "b"))
    assert first == again != other


@pytest.mark.parametrize("name", TARGETS)
def test_cases_are_bounded(name):
    """Inputs of more than 100 kB may take their time."""
    target = TARGETS[name]
    most = max(mutators.MOST, *map(len, target.originals))
    assert max(len(case(target, "a", number)) for number in range(100)) <= most


_READER = """
import json, os, sys
os.chdir(sys.argv[1])
from fuzz_target import Target
from judge import Judge
from sdrt.errors import InputError

judge = Judge()
def escape(code):
    source = compile(f"def read(path):\\n    {code}", "<reader>", "exec")
    names = dict(globals())
    exec(source, names)
    return judge.judge(Target(name="x", seeds=list, mutate=None, read=names["read"]), b"x").escape

escape("pass")  # what is imported once
print(json.dumps([escape(code) for code in json.loads(sys.argv[2])]))
"""
# what a reader does -> what the judge says of it
_ESCAPES = {
    "path.read_bytes()": "",
    "raise InputError('one line')": "",
    "raise InputError('')": judge.UNPRINTABLE,
    "raise InputError('two\\nlines \\x1b[31m')": "",  # the command line makes one of them
    "raise KeyError": "KeyError, <reader>:read",
    "raise type('PanicException', (BaseException,), {})": "PanicException, <reader>:read",
    "raise SystemExit(0)": "SystemExit, <reader>:read",
    "raise RecursionError": "RecursionError, <reader>:read",
    "while True: pass": "more than 2 s, <reader>:read",
    "b'x' * 560_000_000": "more than 500 MB",
    "bytearray(8_000_000_000)": "MemoryError, <reader>:read",
    "open('../outside/canary')": "read outside of the folder",
    "open('/etc/hostname')": "read outside of the folder",
    "open('../x', 'w')": "write outside of the folder",
    "open('y', 'w')": "",
    "os.mkdir('../y')": "os.mkdir outside of the folder",
    "os.symlink('/etc', '../z')": "os.symlink outside of the folder",
    "os.system('true')": "os.system outside of the folder",
    "__import__('socket').getaddrinfo('localhost', 1)": "socket.getaddrinfo outside of the folder",
}


def test_what_the_judge_finds(tmp_path):
    for name in ("work", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside" / "canary").write_text("")
    paths = [campaign.ROOT, campaign.HERE, campaign.HERE.parent / "sdrt"]
    done = subprocess.run(
        [sys.executable, "-c", _READER, tmp_path / "work", json.dumps(list(_ESCAPES))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert dict(zip(_ESCAPES, json.loads(done.stdout), strict=True)) == _ESCAPES


@pytest.mark.parametrize(
    ("end", "escape"),
    [
        ("os.abort()", "the process ended with -6"),
        ("os._exit(0)", "the process ended with 0"),
        ("time.sleep(100)", "no answer in 2 s"),
    ],
)
def test_an_input_that_ends_the_process_is_found_and_the_rest_is_read(monkeypatch, tmp_path, end, escape):
    (tmp_path / "worker.py").write_text(
        "import os, sys, time\nfirst = int(sys.argv[4])\n"
        "for number in range(first, first + int(sys.argv[5])):\n"
        "    print(f'{{\"begin\": {number}}}', flush=True)\n"
        f"    if number == 3: {end}\n"
        '    print(f\'{{"end": {number}, "refused": false, "seconds": 0.0}}\', flush=True)\n'
    )
    monkeypatch.setattr(campaign, "HERE", tmp_path)
    monkeypatch.setattr(campaign, "WAIT", 2.0)
    tally = campaign.fuzz("prompt", "a", cases=6)
    assert tally.cases == 6
    (found,) = tally.escapes.values()
    assert (found.escape, found.number) == (escape, 3)
    assert found.content == case(TARGETS["prompt"], "a", 3)


def test_a_change_outside_by_native_code_is_found(tmp_path):
    (tmp_path / "work").mkdir()
    outside = judge.Outside(tmp_path)
    (tmp_path / "work" / "x").write_text("x")
    assert not outside.changed()
    (tmp_path / "outside" / "canary").write_text("changed")
    assert outside.changed()


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "Error: \n",
        "Error: a",
        "a\n",
        "Error: a\nb\n",
        "Error: \x1b[31m\n",
        "Error: \u202e\n",
        "Error: \ud800\n",
    ],
)
def test_what_is_no_line_of_an_error(printed):
    assert not judge.is_error_line(printed)
    assert judge.is_error_line("Error: é 漢字 \u07b9 is wrong; take another\n")


def test_an_input_is_made_smaller_as_long_as_it_escapes():
    content = b"a" * 500 + b"(x" + b"b" * 500 + b")"
    smaller = minimised(content, lambda one: b"(x" in one and one.endswith(b")"), time.monotonic() + 10)
    assert smaller == b"(x)"
    assert minimised(content, lambda one: True, time.monotonic() - 1) == content


def test_an_escape_says_how_to_see_it_again(tmp_path):
    escape = campaign.Escape(
        target="prompts.csv",
        escape="the process ended with -6",
        said="x\x1b",
        content=b"pro\x07mpt",
        number=7,
    )
    campaign.keep(escape, tmp_path)
    assert escape.file.read_bytes() == b"pro\x07mpt"
    said = campaign.report(escape, "abc")
    assert f"--replay prompts.csv {escape.file}" in said
    assert "seed abc, case 7" in said
    assert said.replace("\n", "").isprintable()
