"""Numbers and texts that no bundle has are refused when it is opened, each in one line."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from sdrt.bundle import DEMO
from sdrt.errors import InputError
from sdrt.manifest import FILE_NAME
from sdrt.safetensors_file import SafetensorsFile
from sdrt.samplers import NoiseSchedule
from sdrt.schedule_ranges import check_schedule

TOKENIZER = "tokenizer/tokenizer.json"


@pytest.fixture
def refuses(refused, bundle, graphs_stay_closed):
    """Every command refuses the bundle."""

    def run(*says: str) -> None:
        refused("generate", "a cat", "-m", str(bundle), "--seed", "1", says=says)

    return run


NUMBERS = [
    ("schedule", "beta_start", -0.00085),
    ("schedule", "beta_start", 0),
    ("schedule", "beta_start", 1e-300),
    ("schedule", "beta_end", 1.0),
    ("schedule", "beta_end", 10**60),
    ("schedule", "beta_end", 0.99),  # no signal is left long before the end
    ("schedule", "num_train_timesteps", 0),
    ("schedule", "num_train_timesteps", 1),
    ("schedule", "num_train_timesteps", -5),
    ("schedule", "num_train_timesteps", 3 * 10**8),
    ("schedule", "num_train_timesteps", 10**30),
    ("schedule", "steps_offset", -1),
    ("schedule", "steps_offset", 10**60),
    ("schedule", "shift", 0),
    ("schedule", "shift", -3.0),
    ("schedule", "original_inference_steps", 0),
    ("schedule", "original_inference_steps", 1001),
    ("schedule", "timestep_scaling", 0),
    ("vae", "scaling_factor", 0),
    ("vae", "scaling_factor", -0.18),
    ("vae", "scaling_factor", 1e-300),
    ("vae", "scale_factor", 10**9),
    ("vae", "latent_channels", 2**40),
    ("text", "bos_token_id", 10**30),
    ("text", "bos_token_id", -1),
    ("text", "eos_token_id", 763),
    ("text", "pad_token_id", 2**31),
    ("text", "max_length", 2),
    ("text", "max_length", 10**9),
    ("defaults", "width", 0),
    ("defaults", "height", -64),
    ("defaults", "steps", 0),
    ("defaults", "steps", 10**12),
    ("defaults", "guidance_scale", 1e300),
    ("made_by", "opset", -1),
]


@pytest.mark.parametrize(("part", "field", "value"), NUMBERS)
def test_numbers(refuses, edit_manifest, part, field, value):
    def change(fields):
        (fields[part][0] if part == "text" else fields[part])[field] = value

    edit_manifest(change)
    refuses(field if field != "beta_end" or value > 0.99 else "noise levels")


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400, "-1" + "0" * 400]
)
@pytest.mark.parametrize(
    "field", ["beta_start", "steps_offset", "scaling_factor", "bos_token_id", "guidance_scale"]
)
def test_what_is_no_number(refuses, bundle, field, value):
    import re

    text = (bundle / FILE_NAME).read_text()
    changed = re.sub(rf'"{field}": [^,\n}}]+', f'"{field}": {value}', text, count=1)
    assert changed != text
    (bundle / FILE_NAME).write_text(changed)
    refuses(FILE_NAME, "is not a valid manifest")


@pytest.mark.parametrize("graph", ["unet", "vae_decoder", "text_encoder"])
def test_a_graph_that_every_picture_needs(refuses, edit_manifest, graph):
    edit_manifest(lambda fields: fields["graphs"].pop(graph))
    refuses(FILE_NAME, f"no {graph} graph")


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: next(iter(fields["files"].values())).update(size=-1),
        lambda fields: next(iter(fields["files"].values())).update(size=2**60),
        lambda fields: next(iter(fields["files"].values())).update(sha256="0" * 63),
        lambda fields: fields["graphs"]["unet"]["inputs"]["sample"].update(dtype="object"),
        lambda fields: fields["graphs"]["unet"]["inputs"]["sample"].update(shape=[2**62, 4, None, None]),
        lambda fields: fields["graphs"]["unet"]["inputs"]["sample"].update(shape=[-1, 4, None, None]),
        lambda fields: fields.update(name="a\0b"),
        lambda fields: fields.update(name="\ud800"),
        lambda fields: fields["made_by"]["tools"].update({"\udfff": "1"}),
    ],
    ids=["size", "huge size", "hash", "dtype", "huge axis", "negative axis", "NUL", "surrogate", "key"],
)
@pytest.mark.parametrize("command", ["generate", "info", "verify"])
def test_what_else_no_manifest_has(refused, bundle, edit_manifest, graphs_stay_closed, command, change):
    edit_manifest(change)
    args = ["generate", "a cat", "-m"] if command == "generate" else [command]
    refused(*args, str(bundle), says=(FILE_NAME, "is not a valid manifest"))


@pytest.mark.parametrize("levels", [65, 900, 50_000])
def test_deep_json(refuses, bundle, levels):
    text = (bundle / FILE_NAME).read_text()
    deep = '{"deep": ' + "[" * levels + "]" * levels + ", " + text.lstrip()[1:]
    (bundle / FILE_NAME).write_text(deep)
    refuses(FILE_NAME, "nested more than 64 levels")


def test_the_schedules_there_are_pass():
    """Of models that are published, and the defaults of diffusers' classes."""
    check_schedule(NoiseSchedule())
    check_schedule(NoiseSchedule(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"))
    check_schedule(NoiseSchedule(beta_schedule="squaredcos_cap_v2"))
    check_schedule(NoiseSchedule(rescale_betas_zero_snr=True, prediction_type="v_prediction"))
    check_schedule(NoiseSchedule(prediction_type="flow", shift=12.0, beta_start=0.5, beta_end=0.9))
    for field in ("beta_start", "shift", "timestep_scaling"):
        with pytest.raises(ValueError, match=field):
            check_schedule(msgspec.structs.replace(NoiseSchedule(), **{field: float("nan")}))
    with pytest.raises(ValueError, match="steps_offset"):
        check_schedule(NoiseSchedule(steps_offset=10**400))


SOURCE = json.loads((DEMO / TOKENIZER).read_text())


def changed(*path, value):
    fields = copy.deepcopy(SOURCE)
    inner = fields
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(fields)


TOKENIZERS = {
    "a prefix that is not there": changed("model", "continuing_subword_prefix", value="WordLevel"),
    "a part without its table": changed("normalizer", "type", value="Precompiled"),
    "a part within": changed("normalizer", "normalizers", 0, value={"type": "Precompiled"}),
    "another model": changed("model", "type", value="Unigram"),
    "tokens at random": changed("model", "dropout", value=0.5),
    "an id beyond the table": changed("model", "vocab", "a</w>", value=10**6),
    "an id beyond 32 bits": changed("model", "vocab", "a</w>", value=2**40),
    "a negative id": changed("model", "vocab", "a</w>", value=-1),
    "an added id": changed("added_tokens", 0, "id", value=2**33),
    "merges of three": changed("model", "merges", 0, value=["a", "b", "c"]),
    "merges of what is no token": changed("model", "merges", 0, value=["\u4e00", "\u4e01"]),
    "a pattern that matches nothing": changed("normalizer", "normalizers", 1, "pattern", value={"Regex": ""}),
    "a pattern that may match nothing": changed(
        "normalizer", "normalizers", 1, "pattern", value={"Regex": "x*"}
    ),
    "a pattern that takes years": changed(
        "pre_tokenizer", "pretokenizers", 0, "pattern", value={"Regex": "(a+)+$"}
    ),
    "no model": "{}",
    "a list": "[]",
    "half": json.dumps(SOURCE)[:5000],
    "deep": "[" * 100_000,
    "surrogate": json.dumps(SOURCE).replace('"a</w>"', '"\\ud800"', 1),
    "not a number": json.dumps(SOURCE).replace('"dropout": null', '"dropout": NaN'),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers(refused, bundle, rehash, name):
    (bundle / TOKENIZER).write_text(TOKENIZERS[name])
    rehash(TOKENIZER)
    refused("generate", "a cat", "-m", str(bundle), says=("tokenizer.json", "export the bundle again"))


def test_any_change_of_a_tokenizer(tmp_path):
    """It is read or refused; in another process, whose stderr a panic of Rust would be on."""
    numbers = random.Random(7)
    values = [None, 0, -1, 2**32, 2**64, "", "\0", "a", [], {}, [1], True, 1e308, "Precompiled", "Unigram"]

    def places(inner, path=()):
        if path:
            yield path
        keys = (
            list(inner) if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else []
        )
        for key in numbers.sample(list(keys), min(len(keys), 12)):
            yield from places(inner[key], (*path, key))

    for index in range(150):
        (tmp_path / f"{index}.json").write_text(
            changed(*numbers.choice(list(places(SOURCE))), value=numbers.choice(values))
        )
    program = (
        "from pathlib import Path\n"
        "from sdrt.errors import BundleError\n"
        "from sdrt.tokenizer import PromptTokenizer\n"
        "for path in Path().glob('*.json'):\n"
        "    try:\n"
        "        PromptTokenizer(path).tokens('a red circle, on \u8d64 blue')\n"
        "    except BundleError as error:\n"
        "        assert len(str(error).splitlines()) == 1, error\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "shape", [[0, 2**62], [2**62, 0], [0, 2**31, 2**31], [0] * 100, [1] * 100, [2**64, 0]]
)
def test_tensors_of_nothing(tmp_path, refused, shape):
    size = 4 if 0 not in shape else 0
    header = {"emb_params": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    with pytest.raises(InputError, match="no valid header"):
        SafetensorsFile(path)
    refused(
        "generate", "x", "--textual-inversion", "x.safetensors", says=("x.safetensors", "no valid header")
    )
    refused("generate", "x", "--lora", "x.safetensors", says=("x.safetensors", "no valid header"))


def test_a_scalar_and_an_empty_tensor_are_read(tmp_path):
    header = {
        "alpha": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        "none": {"dtype": "F32", "shape": [0, 7], "data_offsets": [4, 4]},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + np.float32(3).tobytes())
    file = SafetensorsFile(path)
    assert file["alpha"].item() == 3 and file["none"].shape == (0, 7)
