"""LoRAs as a user gives them: at the command line and in Python; what they refuse, nothing is applied of."""

from __future__ import annotations

import hashlib
import json

import lora_files
import numpy as np
import pytest

from sdrt.bundle import DEMO
from sdrt.cli.lora_option import parse_lora
from sdrt.lora.overrides import read_parameters
from sdrt.metadata import parse_parameters
from sdrt.metadata.image_texts import read_texts
from sdrt.pipeline import Pipeline

QUERY = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q"
CONV = "mid_block.resnets.0.conv1"
TEXT = "encoder.layers.0.mlp.fc1"
KOHYA_QUERY = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
FAST = {"steps": 2, "seed": 1}


def shape(component, module):
    return read_parameters(DEMO / component / "model.onnx")[f"{module}.weight"]


@pytest.fixture
def lora(tmp_path):
    """A file that changes both networks enough to be seen."""
    unet = lora_files.random_factors({name: shape("unet", name) for name in (QUERY, CONV)}, 4, alpha=40.0)
    text = lora_files.random_factors({TEXT: shape("text_encoder", TEXT)}, 2, alpha=20.0)
    return lora_files.write(
        tmp_path / "a style.safetensors",
        lora_files.kohya({"unet": unet, "text_encoder": text}),
        ss_training_comment="tests",
    )


def pixels(loras, **options):
    with Pipeline.load(loras=loras, **options) as pipeline:
        return pipeline.generate("a red star", **FAST)[0].pixels


def test_weights_decide_the_picture(lora, pipeline):
    plain = pipeline.generate("a red star", **FAST)[0].pixels
    whole = pixels([(lora, 1.0)])
    assert np.abs(whole.astype(int) - plain).mean() > 1
    np.testing.assert_array_equal(pixels([(lora, 0.0)]), plain)
    # two sums are rounded to FP16 where one was: a level of 255 here and there
    np.testing.assert_allclose(pixels([(str(lora), 0.5), (lora, 0.5)]).astype(int), whole, rtol=0, atol=1)
    np.testing.assert_array_equal(pipeline.generate("a red star", **FAST)[0].pixels, plain)


def test_stages_are_told(lora):
    stages = []
    pixels([(lora, 1.0)], progress=stages.append)
    assert [stage for stage in stages if "LoRA" in stage] == [
        "reading LoRA",
        "merging LoRA into text_encoder",
        "merging LoRA into unet",
    ]


def test_command_line_and_metadata(lora, sdrt_main, tmp_path):
    asked = ("--steps", "2", "--seed", "1", "-o", "x.png", "--json")
    result = sdrt_main("generate", "a red star", *asked, "--lora", f"{lora}:0.5", "--lora", str(lora))
    assert result.code == 0, result.err
    content = lora.read_bytes()
    said = {"file": "a style.safetensors", "sha256": hashlib.sha256(content).hexdigest()}
    loras = [{**said, "weight": 0.5}, {**said, "weight": 1.0}]
    assert json.loads(result.out)["loras"] == loras
    texts = read_texts(tmp_path / "x.png").texts
    assert json.loads(texts["sdrt"])["loras"] == loras
    # AUTOMATIC1111: SHA-256 of what follows the header
    tensors = content[8 + int.from_bytes(content[:8], "little") :]
    short = hashlib.sha256(tensors).hexdigest()[:12]
    fields = parse_parameters(texts["parameters"])
    assert fields["Lora hashes"] == f"a style: {short}, a style: {short}"
    np.testing.assert_array_equal(pixels([(lora, 1.5)]), _read(tmp_path / "x.png"))


def test_a_file_with_whole_numbers_is_found_by_its_hash(tmp_path):
    """As AUTOMATIC1111's pictures name it."""
    from sdrt.metadata.recorded import NamedFile
    from sdrt.remake import is_same

    tensors = pair() | {f"{KOHYA_QUERY}.alpha": np.array(4, np.int64)}
    path = lora_files.write(tmp_path / "x.safetensors", tensors)
    content = path.read_bytes()
    digest = hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
    assert is_same(path, NamedFile(name="x", sha256=digest[:12], part="tensors"))
    assert not is_same(path, NamedFile(name="x", sha256="0" * 12, part="tensors"))


def _read(path):
    from PIL import Image

    return np.asarray(Image.open(path))


def test_without_one_nothing_is_said(pipeline):
    texts = pipeline.generate("a red star", **FAST)[0].texts
    assert json.loads(texts["sdrt"])["loras"] == []
    assert "Lora hashes" not in texts["parameters"]


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [
        ("x.safetensors", "x.safetensors", 1.0),
        ("x.safetensors:0.8", "x.safetensors", 0.8),
        ("x.safetensors:-1", "x.safetensors", -1.0),
        ("x.safetensors:1e-1", "x.safetensors", 0.1),
        (r"C:\loras\x.safetensors", r"C:\loras\x.safetensors", 1.0),
        (r"C:\loras\x.safetensors:.5", r"C:\loras\x.safetensors", 0.5),
        ("a:b.safetensors", "a:b.safetensors", 1.0),
        ("a:2:0.5", "a:2", 0.5),
        ("x.safetensors:", "x.safetensors:", 1.0),
        ("x.safetensors:strong", "x.safetensors:strong", 1.0),
    ],
)
def test_file_and_weight(text, path, weight):
    assert parse_lora(text)[1] == weight
    assert str(parse_lora(text)[0]) == path


@pytest.mark.usefixtures("graphs_stay_closed")
@pytest.mark.parametrize("weight", ["nan", "inf", "-inf"])
def test_weights_that_are_no_numbers(weight, lora, refused):
    refused("generate", "a", "--lora", f"{lora}:{weight}", says=("a style.safetensors", "finite number"))


def pair(rank=4, rows=None, columns=None):
    out, width = shape("unet", QUERY)
    return {
        f"{KOHYA_QUERY}.lora_down.weight": np.ones((rank, columns or width), np.float32),
        f"{KOHYA_QUERY}.lora_up.weight": np.ones((rows or out, rank), np.float32),
    }


def renamed(old, new):
    return {name.replace(old, new): array for name, array in pair().items()}


ONE = np.ones(1, np.float32)
FAULTS = {
    "another width": (pair(columns=2048), (KOHYA_QUERY, "x 2048", "made for this kind of model")),
    "another height": (pair(rows=8), (KOHYA_QUERY, "8 x", "made for this kind of model")),
    "nothing matches": (
        renamed("lora_unet_mid_block", "lora_unet_single_blocks_0"),
        ("no such module", "lora_unet_single_blocks_0", "(1 of 1 modules)"),
    ),
    "one does not match": (
        pair() | renamed("to_q", "to_x"),
        ("no such module", "attn2_to_x.lora_down.weight", "(1 of 2 modules)"),
    ),
    "a text encoder of XL": (
        pair() | renamed("lora_unet_", "lora_te2_"),
        ("the model has no text_encoder_2", "lora_te2_mid_block", "(1 of 2 modules)"),
    ),
    "half a pair": ({f"{KOHYA_QUERY}.lora_up.weight": ONE[None]}, ("lacks a factor of", KOHYA_QUERY)),
    "alpha alone": ({f"{KOHYA_QUERY}.alpha": ONE[0]}, ("lacks a factor of", KOHYA_QUERY)),
    "LoHa and LoRA at once": (pair() | {f"{KOHYA_QUERY}.hada_w1_a": ONE}, ("lacks a factor", "hada_w1_a")),
    "ranks that differ": (
        pair() | {f"{KOHYA_QUERY}.lora_up.weight": np.ones((shape("unet", QUERY)[0], 3), np.float32)},
        ("do not fit together", "down [4,", ", 3]"),
    ),
    "rank 0": (pair(rank=0), ("do not fit together", "down [0,")),
    "no inputs": (
        pair() | {f"{KOHYA_QUERY}.lora_down.weight": np.ones((4, 0), np.float32)},
        ("do not fit together", "down [4, 0]", "download it again"),
    ),
    "no outputs": (
        {f"{KOHYA_QUERY}.lokr_w1": np.ones((0, 4), np.float32), f"{KOHYA_QUERY}.lokr_w2": ONE[None]},
        ("do not fit together", "lokr_w1 [0, 4]"),
    ),
    "an empty core": (
        pair() | {f"{KOHYA_QUERY}.lora_mid.weight": np.ones((4, 4, 0, 0), np.float32)},
        ("do not fit together", "mid [4, 4, 0, 0]"),
    ),
    "blocks that are no squares": (
        {f"{KOHYA_QUERY}.oft_blocks": np.ones((2, 4, 3), np.float32)},
        ("do not fit together", "oft_blocks [2, 4, 3]"),
    ),
    "factors of whole numbers": (
        {key: array.astype(np.int8) for key, array in pair().items()},
        ("lora_down.weight", "is of whole numbers"),
    ),
    "rows for matrices": (
        {f"{KOHYA_QUERY}.lora_{part}.weight": ONE for part in ("down", "up")},
        ("do not fit together", "down [1]"),
    ),
    "several alphas": (pair() | {f"{KOHYA_QUERY}.alpha": np.ones(3, np.float32)}, ("alpha", "one number")),
    "infinite alpha": (pair() | {f"{KOHYA_QUERY}.alpha": ONE[0] * np.inf}, ("alpha of", "finite number")),
    "DoRA of another width": (
        pair() | {f"{KOHYA_QUERY}.dora_scale": ONE},
        (f"{KOHYA_QUERY}.dora_scale [1]", "another weight"),
    ),
    "DoRA alone": ({f"unet.{QUERY}.lora_magnitude_vector": ONE}, ("lacks a factor of", QUERY)),
    "DoRA of a full difference": (
        {f"{KOHYA_QUERY}.dora_scale": ONE, f"{KOHYA_QUERY}.diff": np.ones(shape("unet", QUERY), np.float32)},
        (f"{KOHYA_QUERY}.dora_scale", "DoRA of a full difference"),
    ),
    "a difference of another size": ({f"{KOHYA_QUERY}.diff": ONE}, (KOHYA_QUERY, "1 x 1, the model's")),
    "a bias that the model has not": (
        {f"{KOHYA_QUERY}.diff_b": ONE},
        ("no such module", f"{KOHYA_QUERY}.diff_b"),
    ),
    "a norm of another size": ({"lora_unet_conv_norm_out.w_norm": ONE}, ("1 x 1, the model's", "64 x 1")),
    "IA3 without scales": (
        {f"{KOHYA_QUERY}.on_input": np.array(1)},
        ("lacks a factor of", f"{KOHYA_QUERY}.on_input"),
    ),
    "IA3's flag beside a LoRA": (
        pair() | {f"{KOHYA_QUERY}.on_input": np.array(1)},
        ("lacks a factor of", f"{KOHYA_QUERY}.on_input"),
    ),
    "IA3 of another size": (
        {f"{KOHYA_QUERY}.weight": np.ones(7, np.float32), f"{KOHYA_QUERY}.on_input": np.array(1)},
        (KOHYA_QUERY, "any x 7"),
    ),
    "PEFT's OFT": ({"base_model.model.x.oft_R.weight": ONE}, ("is of OFT of PEFT",)),
    "PEFT's IA3": ({"base_model.model.x.ia3_l": ONE}, ("is of IA3 of PEFT",)),
    "VeRA": ({"base_model.model.x.vera_lambda_b": ONE}, ("is of VeRA",)),
    "biases": ({"unet.x.lora_B.bias": ONE}, ("is of changes of biases",)),
    "an embedding": ({"emb_params": ONE}, ("emb_params is of embeddings",)),
    "a checkpoint": ({"model.diffusion_model.x.weight": ONE}, ("is of a kind that sdrt does not know",)),
    "nothing": ({}, ("has no tensors",)),
    "the same twice": (
        pair() | {f"unet.{QUERY}.lora_A.weight": ONE},
        ("says the same twice", "lora_A", "lora_down"),
    ),
}


@pytest.mark.usefixtures("graphs_stay_closed")
@pytest.mark.parametrize("fault", FAULTS)
def test_files_that_do_not_fit(fault, lora, tmp_path, refused):
    """Also behind one that does: nothing is applied."""
    tensors, says = FAULTS[fault]
    path = lora_files.write(tmp_path / "bad.safetensors", tensors)
    refused("generate", "a", "--lora", str(lora), "--lora", str(path), says=("bad.safetensors", *says))


@pytest.mark.usefixtures("graphs_stay_closed")
@pytest.mark.parametrize(
    "config",
    [
        "no JSON",
        [1],
        {"unet.lora_alpha": "many"},
        {"unet.lora_alpha": True},
        {"unet.lora_alpha": 10**400},
        {"unet.lora_alpha": float("nan")},
        {"unet.alpha_pattern": {"to_q": [1]}, "unet.lora_alpha": 1},
    ],
)
def test_configs_in_the_metadata_that_make_no_sense(config, tmp_path, refused):
    path = lora_files.write(tmp_path / "bad.safetensors", pair(), lora_adapter_metadata=config)
    refused("generate", "a", "--lora", str(path), says=("bad.safetensors",))


@pytest.mark.parametrize("name", ["x.pt", "x.ckpt", "x.safetensors"])
def test_pickles(name, tmp_path, refused):
    (tmp_path / name).write_bytes(b"PK\x03\x04" + b"\0" * 100)
    refused("generate", "a", "--lora", name, says=(name, "is a pickle", "refused"))


@pytest.mark.parametrize("number", [np.nan, np.inf, 3e38])
def test_numbers_that_are_none(number, tmp_path, refused):
    tensors = pair()
    tensors[f"{KOHYA_QUERY}.lora_up.weight"][3, 2] = number
    tensors[f"{KOHYA_QUERY}.lora_down.weight"] *= 2
    path = lora_files.write(tmp_path / "bad.safetensors", tensors)
    refused("generate", "a", "--lora", str(path), says=(KOHYA_QUERY, "bad.safetensors", "NaN or Inf"))


def test_sums_too_large_for_half(tmp_path, refused):
    """The demo's weights are stored in FP16, which ends at 65504."""
    path = lora_files.write(tmp_path / "x.safetensors", pair())
    refused(
        "generate", "a", "--lora", f"{path}:1e5", says=("x.safetensors", "too large for float16", "lower")
    )


def test_graphs_without_names_of_parameters(bundle, lora, rehash, refused):
    """As other exporters write them."""
    path = bundle / "unet/model.onnx"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"attn2.to_q", b"attn2.xx_q"))
    rehash("unet/model.onnx")
    refused("generate", "a", "-m", str(bundle), "--lora", str(lora), says=("no such module", KOHYA_QUERY))
