"""What strangers wrote reaches no terminal as it is: in results, warnings and errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
import warnings

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdrt.cli.terminal import printable

# a title, the bell, a carriage return, the 8-bit CSI, a bidi override, a line separator, delete, backspace
HARM = "a\x1b]0;owned\x07\rb\x9b2J\u202ec\u2028\x7fd\x08\u2066e\x1b[2K"


def is_harmless(text: str) -> bool:
    """Whether each line has nothing but what is shown."""
    categories = {unicodedata.category(c) for c in text.replace("\n", "")}
    return not categories & {"Cc", "Cf", "Zl", "Zp"}


def picture(path, **texts):
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_itxt(keyword, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)


def test_what_is_escaped_and_what_is_not():
    assert printable(HARM) == (r"a\x1b]0;owned\x07\rb\x9b2J\u202ec\u2028\x7fd\x08\u2066e\x1b[2K")
    assert printable("\ud800\n\t") == r"\ud800\n\t"
    # accents, Hebrew, an ideographic space, an emoji of four people, Persian with its joiner
    for text in ("é עברית\u3000赤", "👨\u200d👩\u200d👧\u200d👦", "\u0645\u06cc\u200c\u062e"):
        assert printable(text) == text


@pytest.mark.parametrize(
    "texts",
    [
        {"parameters": f"{HARM}\nNegative prompt: {HARM}\nSteps: 1, Sampler: {HARM}, {HARM[0]}x: {HARM}"},
        {"sdrt": json.dumps({"prompt": HARM, "version": HARM, HARM: HARM})},
        {"invokeai_metadata": json.dumps({"positive_prompt": HARM, "app_version": HARM, HARM: HARM})},
        {"prompt": json.dumps({"1": {"class_type": HARM, "inputs": {}}})},
        {"sdrt": HARM},
        {"sdrt": json.dumps({"prompt": "a", "sampler": HARM})},
    ],
    ids=["AUTOMATIC1111", "sdrt", "InvokeAI", "ComfyUI", "no JSON", "sampler"],
)
@pytest.mark.parametrize("command", [["info"], ["info", "--json"], ["generate", "-m", "demo", "--from"]])
def test_texts_of_a_picture(sdrt_main, texts, command):
    picture("x.png", **texts)
    result = sdrt_main(*command, "x.png")
    assert is_harmless(result.out)
    assert is_harmless(result.err)
    assert r"\x1b" in result.out + result.err or r"\u001b" in result.out or "]0;owned" not in result.out


def test_json_stays_json(sdrt_main):
    picture("x.png", sdrt=json.dumps({"prompt": HARM}))
    assert json.loads(sdrt_main("info", "--json", "x.png").out)["settings"]["prompt"] == HARM


def test_a_line_break_makes_no_line_of_its_own(sdrt_main):
    picture("x.png", sdrt=json.dumps({"prompt": "a\nseed: 7", "version": "1"}))
    assert "  prompt: a\\nseed: 7" in sdrt_main("info", "x.png").out.splitlines()


@pytest.mark.parametrize("command", [("info",), ("verify",), ("info", "--json")])
def test_fields_of_a_manifest(sdrt_main, bundle, edit_manifest, command):
    def change(fields):
        fields["name"] = fields["made_by"]["source"] = HARM
        fields["made_by"]["tools"] = {HARM: HARM}

    edit_manifest(change)
    result = sdrt_main(command[0], str(bundle), *command[1:])
    assert result.code == 0
    assert is_harmless(result.out + result.err)


def test_a_manifest_that_is_refused(sdrt_main, bundle, edit_manifest):
    for change in (
        lambda fields: fields.update({HARM: 1}),
        lambda fields: fields.update(schema=HARM),
        lambda fields: fields["files"].update({HARM: {"size": 1, "sha256": "0" * 64}}),
    ):
        edit_manifest(change)
        result = sdrt_main("verify", str(bundle))
        assert result.code == 2
        assert is_harmless(result.err)
        assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", json.dumps({"prompt": "a", HARM: 1})),
        ("p.csv", f"prompt,{HARM}\na,b"),
        ("p.txt", "a --\x1b[2J b"),
    ],
)
def test_files_of_prompts(sdrt_main, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    result = sdrt_main("generate", "--prompts", name)
    assert is_harmless(result.out + result.err)


def test_arguments_and_names(sdrt_main, tmp_path):
    (tmp_path / "\x1b[2J").mkdir()
    for args in (
        ["info", HARM],
        [HARM],
        ["generate", "a", "-o", f"{HARM}/x.png"],
        ["verify", HARM],
        ["--\x1b[2J"],
    ):
        result = sdrt_main(*args)
        assert result.code == 2
        assert is_harmless(result.err)
    result = sdrt_main("generate", "a", "--steps", "1", "-o", "\x1b[2J/x.png")
    assert result.out == "\\x1b[2J/x.png\n"


def test_warnings_and_where_errors_come_from(sdrt_main, monkeypatch):
    def find(name):
        warnings.warn(HARM, stacklevel=1)
        raise ZeroDivisionError(HARM)

    monkeypatch.setattr("sdrt.models.find_bundle", find)
    result = sdrt_main("verify", "--debug")
    assert "Warning: a" in result.err
    assert "Traceback" in result.err
    assert is_harmless(result.err)


def run(*args, **settings):
    return subprocess.run([sys.executable, "-m", "sdrt", *args], timeout=60, check=False, **settings)


class TestStreams:
    """Standard streams that are closed, full, or of another encoding."""

    @pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
    def test_closed(self, tmp_path, closed):
        done = run(
            *("generate", "a cat", "--steps", "2", "-o", "x.png"),
            cwd=tmp_path,
            preexec_fn=lambda: [os.close(number) for number in closed],
        )
        assert done.returncode == 0
        with Image.open(tmp_path / "x.png") as image:
            image.load()

    @pytest.mark.parametrize(
        "command", [("info", "demo"), ("--help",), ("samplers",), ("info", "demo", "--json")]
    )
    def test_full(self, tmp_path, command):
        with open("/dev/full", "wb") as full:  # noqa: PTH123
            done = run(*command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1
        assert done.stderr == "Error: cannot write to standard output: No space left on device\n"

    def test_full_stderr(self, tmp_path):
        with open("/dev/full", "wb") as full:  # noqa: PTH123
            done = run("info", "absent.png", cwd=tmp_path, stdout=subprocess.PIPE, stderr=full)
        assert (done.returncode, done.stdout) == (2, b"")

    @pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
    def test_encodings(self, tmp_path, encoding):
        picture(tmp_path / "x.png", sdrt=json.dumps({"prompt": "é 赤", "version": "1"}))
        environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"}
        done = run("info", "x.png", cwd=tmp_path, env=environment, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        shown = {"latin-1": b"\xe9 \\u8d64", "utf-8": "é 赤".encode()}
        assert b"  prompt: " + shown[encoding] in done.stdout.splitlines()

    def test_no_locale(self, tmp_path):
        environment = {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }
        done = run("info", "absent-é.png", cwd=tmp_path, env=environment, capture_output=True)
        assert done.returncode == 2
        assert done.stderr.startswith(b"Error: there is no picture absent-")
