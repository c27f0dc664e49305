"""Small inputs of strangers are answered at once: no parser is quadratic, whatever it is given."""

from __future__ import annotations

import contextlib
import json
import time
import tracemalloc
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdrt import manifest as manifests
from sdrt.errors import InputError, SdrtError
from sdrt.many.prompt_files import read_prompts
from sdrt.metadata.automatic1111 import read_parameters
from sdrt.metadata.comfyui import read_graph
from sdrt.metadata.invokeai import read_metadata
from sdrt.metadata.own import read_own
from sdrt.prompt import plan_prompt
from sdrt.safetensors_file import SafetensorsFile
from sdrt.samplers import find_sampler
from sdrt.strict_json import read_json

LIMIT = 2.0  # seconds of CPU, of which all below take less than a quarter on two cores
MEMORY = 500_000_000  # bytes


@contextlib.contextmanager
def quick():
    """What is within takes little time and memory, and raises nothing but errors of sdrt's own."""
    started = time.process_time()
    with contextlib.suppress(SdrtError):
        yield
    assert time.process_time() - started < LIMIT


@contextlib.contextmanager
def small():
    tracemalloc.start()
    try:
        with contextlib.suppress(SdrtError):
            yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


N = 99_000
PROMPTS = {
    "digits of an edit": "[a:b:" + "1" * N,
    "digits and a bracket": "[a:b:" + "1" * N + "]",
    "digits that are no number": "[a:b:" + "1" * N + "x]",
    "digits and points": "[a:b:" + "1." * (N // 2) + "]",
    "digits of a weight": "(a:" + "1" * N + ")",
    "digits of a part": "a AND b :" + "1" * N + "x",
    "spaces of an edit": "[a:b:" + " " * N + "x]",
    "spaces of a weight": "(a:" + " " * N + "x y)",
    "colons": ":" * N,
    "open brackets": "([" * 4900,
    "brackets in turn": "[a" * 90 + "]" * 90,
    "bars": "[" + "a|" * 9000 + "]",
    "edits": "[a:b:0.5]" * 2400,
    "backslashes": "\\" * 9000,
    "exponent": "[a:b:1e" + "9" * N + "]",
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(name):
    with quick():
        plan_prompt(PROMPTS[name], 50)
    with quick():
        plan_prompt(PROMPTS[name], 50, composition=False)


def test_an_edit_at_a_long_number_is_still_one():
    """The pattern of its number matches what it matched before."""
    (part,) = plan_prompt("[a:b:" + "0" * 20_000 + "2]", 10)
    assert [entry.last_step for entry in part.schedule] == [2, 10]
    # a number with a point, or below 1, is a part of the ten steps
    for when, last in (
        ("3", 3),
        ("3.", 10),
        (".3", 3),
        ("0.3", 3),
        ("3.e0", 10),
        (" +.3e0 ", 3),
        ("3e-1", 3),
    ):
        (part,) = plan_prompt(f"[a:b:{when}]", 10)
        assert part.schedule[0].last_step == last, when
    for when in ("", ".", "1..2", "1.2.3", "e1", "1e", "+"):
        (part,) = plan_prompt(f"[a:b:{when}]", 10)
        assert len(part.schedule) == 1, when


PARAMETERS = {
    "lines of steps": "Steps: 1,\n" * N,
    "pairs": "a\nSteps: 1, " + "a: b, " * N,
    "words without a value": "a\nSteps: 1, " + "a b-c/d " * N,
    "open quote": 'a\nSteps: 1, a: "' + "b, c: " * N,
    "quotes": "a\nSteps: 1, " + 'a: "b' * N,
    "escapes": 'a\nSteps: 1, a: "' + '\\"' * N,
    "tags": "<lora:a:1>" * N + "\nSteps: 1, Seed: 2",
    "open tags": "<lora:" * N + "\nSteps: 1, Seed: 2",
    "hashes": 'a\nSteps: 1, Lora hashes: "' + ", ".join(f"n{i}: {i:08x}" for i in range(N)) + '"',
    "digits": "a\nSteps: " + "9" * N + ", Seed: " + "9" * N,
    "a long sampler": "a\nSteps: 1, Sampler: " + "dpm" * N,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    with quick():
        read_parameters(PARAMETERS[name])


def test_the_last_line_of_steps_counts():
    assert read_parameters("a\nSteps: 3, Seed: 1\nSteps: 5, Seed: 2\nmore").settings["steps"] == 5


def test_a_compressed_chunk(sdrt_main):
    info = PngInfo()
    info.add_text("parameters", "Steps: 1,\n" * N, zip=True)
    Image.new("RGB", (8, 8)).save("x.png", pnginfo=info)
    with quick():
        assert sdrt_main("info", "x.png").code == 0


def savers(count, links):
    """So many nodes that save a picture, over one chain of links."""
    nodes = {f"s{i}": {"class_type": "SaveImage", "inputs": {"images": ["c0", 0]}} for i in range(count)} | {
        f"c{i}": {"class_type": "Upscale", "inputs": {"image": [f"c{i + 1}", 0]}} for i in range(links)
    }
    nodes[f"c{links}"] = {"class_type": "VAEDecode", "inputs": {"samples": ["k", 0]}}
    return nodes


GRAPHS = {
    "savers over one chain": savers(20_000, 190),
    "savers over a chain too long": savers(20_000, 5000),
    "a circle": savers(20_000, 3) | {"c3": {"class_type": "X", "inputs": {"image": ["c0", 0]}}},
    "a node on itself": {"a": {"class_type": "SaveImage", "inputs": {"images": ["a", 0]}}},
    "kinds of nodes": {
        str(i): {"class_type": "SaveImage", "inputs": {"images": [str(i + 1), 0]}} for i in range(20_000)
    },
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name):
    text = json.dumps(GRAPHS[name])
    assert len(zlib.compress(text.encode(), 9)) < 200_000
    with quick():
        read_graph(text)


def test_many_savers_are_one_picture():
    graph = savers(300, 20)
    graph["k"] = {
        "class_type": "KSampler",
        "inputs": {"seed": 7, "steps": 3, "cfg": 2, "sampler_name": "euler", "scheduler": "normal",
                   "positive": ["t", 0], "negative": ["t", 0], "model": ["m", 0], "latent_image": ["e", 0]},
    }  # fmt: skip
    graph["t"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "a"}}
    graph["m"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x.ckpt"}}
    graph["e"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 8, "height": 8, "batch_size": 1}}
    found = read_graph(json.dumps(graph))
    assert found.settings["seed"] == 7
    assert "the node 'Upscale' is not carried over" in found.notes


JSON = {
    "keys": "{" + ",".join(f'"{i}":1' for i in range(N // 8)) + "}",
    "keys twice": "{" + ",".join(f'"{i}":1' for i in range(N // 8)) + ',"0":1}',
    "one key": "{" + '"a":1,' * (N // 6) + '"a":1}',
    "lists": "[" * N,
    "lists that end": "[" * 60 + "]" * 60,
    "nested": "[" * 900 + "]" * 900,
    "objects": '{"a":' * 900 + "1" + "}" * 900,
    "wide": "[" + "[[[]]]," * (N // 7) + "1]",
    "digits": "9" * N,
    "fraction": "0." + "9" * N,
    "exponent": "1e" + "9" * N,
    "escapes": '"' + "\\u0061" * (N // 6) + '"',
}


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize("read", [read_own, read_metadata, read_graph, read_json])
def test_json(name, read):
    with quick(), contextlib.suppress(ValueError):
        read(JSON[name])


@pytest.mark.parametrize("name", JSON)
def test_json_of_files(tmp_path, name):
    text = JSON[name]
    (tmp_path / "sdrt.json").write_text(text)
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text.encode())
    (tmp_path / "p.jsonl").write_text(text)
    with quick(), small():
        manifests.read(tmp_path / "sdrt.json")
    with quick(), small():
        SafetensorsFile(tmp_path / "x.safetensors")
    with quick(), small():
        read_prompts(tmp_path / "p.jsonl")


LINES = {
    "options": "a " + "--x " * (N // 4),
    "open quotes": "a " + '--x "' * (N // 5),
    "dashes": "-" * N,
    "words": "a --" + "b-" * (N // 2),
    "spaces": "a --b" + " " * N + "c",
    "equals": "a --b" + " =" * (N // 2),
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("ending", ["txt", "csv"])
def test_lines(tmp_path, name, ending):
    (tmp_path / f"p.{ending}").write_text(LINES[name])
    with quick():
        read_prompts(tmp_path / f"p.{ending}")


def test_names_that_nobody_knows():
    with quick(), pytest.raises(InputError) as error:
        find_sampler("euler" * 20_000)
    assert len(str(error.value)) < 500
