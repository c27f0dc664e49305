"""What a LoRA file adds to which parameter, by the definitions of its kinds."""

from __future__ import annotations

import lora_files
import numpy as np
import pytest

from sdrt.bundle import DEMO
from sdrt.lora import adapt, add
from sdrt.lora.overrides import read_parameters

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
LINEAR, OUT = f"{ATTENTION}.to_q", f"{ATTENTION}.to_out.0"
CONV, POINTWISE = "down_blocks.0.resnets.0.conv1", "mid_block.attentions.0.proj_in"
TEXT = "encoder.layers.1.self_attn.q_proj"
PRECISION = 2e-6  # of a delta's largest number: products of FP32 with up to 64 addends


@pytest.fixture(scope="module")
def parameters():
    return {name: read_parameters(DEMO / name / "model.onnx") for name in ("text_encoder", "unet")}


@pytest.fixture
def merged(parameters, tmp_path):
    """What files of these tensors and weights add to parameters of zeros, by component and module."""

    def merged(*loras, model=parameters, **metadata):
        files = [
            (lora_files.write(tmp_path / f"{i}.safetensors", tensors, **metadata), weight)
            for i, (tensors, weight) in enumerate(loras)
        ]
        found = {}
        for component, of_one in adapt(files, model).changes.items():
            for name, changes in of_one.items():
                weight = np.zeros(model[component][name], np.float32)
                add(weight, changes)
                found[component, name.removesuffix(".weight")] = weight
        return found

    return merged


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=PRECISION * np.abs(expected).max())


def factors(parameters, component, *modules, rank=4, **options):
    shapes = {module: parameters[component][f"{module}.weight"] for module in modules}
    return lora_files.random_factors(shapes, rank, **options)


@pytest.mark.parametrize(("rank", "alpha"), [(1, None), (4, None), (4, 1.0), (64, 32.0), (200, 8.0)])
def test_kohya(merged, parameters, rank, alpha):
    unet = factors(parameters, "unet", LINEAR, OUT, CONV, POINTWISE, rank=rank, alpha=alpha)
    text = factors(parameters, "text_encoder", TEXT, rank=rank, alpha=alpha)
    found = merged((lora_files.kohya({"unet": unet, "text_encoder": text}), -0.5))
    expected = {("unet", name): parts for name, parts in unet.items()}
    expected |= {("text_encoder", name): parts for name, parts in text.items()}
    assert set(found) == set(expected)
    for key, parts in expected.items():
        assert_close(found[key], -0.5 * lora_files.delta(parts, found[key].shape))


PREFIXED = "unet." + ATTENTION
SPELLINGS = {
    "PEFT": (f"{PREFIXED}.to_out.0.lora_A.weight", f"{PREFIXED}.to_out.0.lora_B.weight"),
    "PEFT, a named adapter": (
        f"{PREFIXED}.to_out.0.lora_A.default_0.weight",
        f"{PREFIXED}.to_out.0.lora_B.default_0.weight",
    ),
    "PEFT, compiled": (
        f"unet._orig_mod.{ATTENTION}.to_out.0.lora_A.weight",
        f"unet._orig_mod.{ATTENTION}.to_out.0.lora_B.weight",
    ),
    "ComfyUI": (
        f"diffusion_model.{ATTENTION}.to_out.0.lora_down.weight",
        f"diffusion_model.{ATTENTION}.to_out.0.lora_up.weight",
    ),
    "PEFT's own": (
        f"base_model.model.{ATTENTION}.to_out.0.lora_A.weight",
        f"base_model.model.{ATTENTION}.to_out.0.lora_B.weight",
    ),
    "PEFT's own within a pipeline": (
        f"unet.base_model.model.{ATTENTION}.to_out.0.lora_A.weight",
        f"unet.base_model.model.{ATTENTION}.to_out.0.lora_B.weight",
    ),
    "diffusers": (f"{PREFIXED}.to_out.0.lora.down.weight", f"{PREFIXED}.to_out.0.lora.up.weight"),
    "diffusers' attention processors": (
        f"{PREFIXED}.processor.to_out_lora.down.weight",
        f"{PREFIXED}.processor.to_out_lora.up.weight",
    ),
    "a U-Net's attention processors": (
        f"{ATTENTION}.processor.to_out_lora.down.weight",
        f"{ATTENTION}.processor.to_out_lora.up.weight",
    ),
    "kohya": (
        f"lora_unet_{OUT.replace('.', '_')}.lora_down.weight",
        f"lora_unet_{OUT.replace('.', '_')}.lora_up.weight",
    ),
    "original names": (
        "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_out_0.lora_down.weight",
        "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_out_0.lora_up.weight",
    ),
    "original names with dots": (
        "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_out.0.lora_A.weight",
        "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_out.0.lora_B.weight",
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_of_the_unet(spelling, merged, parameters):
    parts = factors(parameters, "unet", OUT)[OUT]
    down, up = SPELLINGS[spelling]
    found = merged(({down: parts["down"], up: parts["up"]}, 1.0))
    assert list(found) == [("unet", OUT)]
    assert_close(found["unet", OUT], lora_files.delta(parts, found["unet", OUT].shape))


@pytest.mark.parametrize(
    "path",
    [
        "lora_te_text_model_encoder_layers_1_self_attn_q_proj.lora_{}.weight",
        "lora_te1_text_model_encoder_layers_1_self_attn_q_proj.lora_{}.weight",
        "text_encoder.text_model.encoder.layers.1.self_attn.q_proj.lora_linear_layer.{}.weight",
        "text_encoder.text_model.encoder.layers.1.self_attn.to_q_lora.{}.weight",
        "text_encoder.encoder.layers.1.self_attn.q_proj.lora.{}.weight",
    ],
)
def test_spellings_of_the_text_encoder(path, merged, parameters):
    parts = factors(parameters, "text_encoder", TEXT)[TEXT]
    found = merged(({path.format(part): parts[part] for part in ("down", "up")}, 1.0))
    assert list(found) == [("text_encoder", TEXT)]
    assert_close(found["text_encoder", TEXT], lora_files.delta(parts, found["text_encoder", TEXT].shape))


def test_a_convolution_of_one_pixel_is_a_matrix(merged, parameters):
    """Stable Diffusion 1 and 2 differ in whether proj_in is one; trainers write either."""
    parts = factors(parameters, "unet", POINTWISE)[POINTWISE]
    expected = lora_files.delta(parts, parameters["unet"][f"{POINTWISE}.weight"])
    flat = {"down": parts["down"][:, :, 0, 0], "up": parts["up"][:, :, 0, 0]}
    found = merged((lora_files.kohya({"unet": {POINTWISE: flat}}), 1.0))
    assert_close(found["unet", POINTWISE], expected)


def test_several_files_add_up(merged, parameters):
    first, second = (factors(parameters, "unet", LINEAR, CONV, seed=seed, alpha=2.0) for seed in (0, 1))
    found = merged((lora_files.kohya({"unet": first}), 0.8), (lora_files.kohya({"unet": second}), -1.2))
    for module in (LINEAR, CONV):
        shape = found["unet", module].shape
        deltas = [lora_files.delta(one[module], shape) for one in (first, second)]
        assert_close(found["unet", module], 0.8 * deltas[0] - 1.2 * deltas[1])


def test_alphas_in_the_metadata(merged, parameters):
    """As diffusers writes PEFT's configs: one for the component, others by the ends of names."""
    unet = factors(parameters, "unet", LINEAR, OUT, CONV)
    text = factors(parameters, "text_encoder", TEXT)
    config = {
        "unet.lora_alpha": 8,
        "unet.alpha_pattern": {"attn1.to_out.0": 2, "0.conv1": 1},
        "text_encoder.lora_alpha": 6,
        "text_encoder.use_rslora": True,  # over the root of the rank
    }
    tensors = lora_files.peft({"unet": unet, "text_encoder": text})
    found = merged((tensors, 1.0), lora_adapter_metadata=config)
    for key, scale in {LINEAR: 8 / 4, OUT: 2 / 4, CONV: 1 / 4}.items():
        assert_close(found["unet", key], scale * lora_files.delta(unet[key], found["unet", key].shape))
    expected = 6 / 4**0.5 * lora_files.delta(text[TEXT], found["text_encoder", TEXT].shape)
    assert_close(found["text_encoder", TEXT], expected)


def normals(**shapes):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


# a convolution [6, 4, 3, 3] and a matrix [6, 4], each of rank 2 and alpha 3
MODEL = {"unet": {"conv.weight": (6, 4, 3, 3), "linear.weight": (6, 4)}}
KINDS = {
    "LoCon with a core": (
        "conv",
        {"up": (6, 2, 1, 1), "mid": (2, 2, 3, 3), "down": (2, 4, 1, 1)},
        lambda a: np.einsum("omxy,mnhw,nixy->oihw", a["up"], a["mid"], a["down"]) * 3 / 2,
    ),
    "LoHa": (
        "linear",
        {"hada_w1_a": (6, 2), "hada_w1_b": (2, 4), "hada_w2_a": (6, 2), "hada_w2_b": (2, 4)},
        lambda a: (a["hada_w1_a"] @ a["hada_w1_b"]) * (a["hada_w2_a"] @ a["hada_w2_b"]) * 3 / 2,
    ),
    "LoHa of a convolution": (
        "conv",
        {"hada_w1_a": (6, 2), "hada_w1_b": (2, 36), "hada_w2_a": (6, 2), "hada_w2_b": (2, 36)},
        lambda a: (
            (a["hada_w1_a"] @ a["hada_w1_b"]).reshape(6, 4, 3, 3)
            * (a["hada_w2_a"] @ a["hada_w2_b"]).reshape(6, 4, 3, 3)
            * 3
            / 2
        ),
    ),
    "LoHa with cores": (
        "conv",
        {
            **{"hada_t1": (2, 2, 3, 3), "hada_w1_a": (2, 6), "hada_w1_b": (2, 4)},
            **{"hada_t2": (2, 2, 3, 3), "hada_w2_a": (2, 6), "hada_w2_b": (2, 4)},
        },
        lambda a: (
            np.einsum("mnhw,mo,ni->oihw", a["hada_t1"], a["hada_w1_a"], a["hada_w1_b"])
            * np.einsum("mnhw,mo,ni->oihw", a["hada_t2"], a["hada_w2_a"], a["hada_w2_b"])
            * 3
            / 2
        ),
    ),
    "LoKr of whole factors, whose alpha means nothing": (
        "linear",
        {"lokr_w1": (2, 2), "lokr_w2": (3, 2)},
        lambda a: np.kron(a["lokr_w1"], a["lokr_w2"]),
    ),
    "LoKr": (
        "linear",
        {"lokr_w1": (3, 2), "lokr_w2_a": (2, 2), "lokr_w2_b": (2, 2)},
        lambda a: np.kron(a["lokr_w1"], a["lokr_w2_a"] @ a["lokr_w2_b"]) * 3 / 2,
    ),
    "LoKr with two products": (
        "linear",
        {"lokr_w1_a": (3, 2), "lokr_w1_b": (2, 2), "lokr_w2_a": (2, 2), "lokr_w2_b": (2, 2)},
        lambda a: np.kron(a["lokr_w1_a"] @ a["lokr_w1_b"], a["lokr_w2_a"] @ a["lokr_w2_b"]) * 3 / 2,
    ),
    "LoKr of a convolution": (
        "conv",
        {"lokr_w1": (3, 2), "lokr_w2": (2, 2, 3, 3)},
        lambda a: np.kron(a["lokr_w1"][..., None, None], a["lokr_w2"]),
    ),
    "LoKr of a convolution, flat": (
        "conv",
        {"lokr_w1": (3, 2), "lokr_w2_a": (2, 2), "lokr_w2_b": (2, 18)},
        lambda a: (
            np.kron(a["lokr_w1"][..., None, None], (a["lokr_w2_a"] @ a["lokr_w2_b"]).reshape(2, 2, 3, 3))
            * 3
            / 2
        ),
    ),
    "LoKr with a core": (
        "conv",
        {"lokr_w1": (3, 2), "lokr_t2": (2, 2, 3, 3), "lokr_w2_a": (2, 2), "lokr_w2_b": (2, 2)},
        lambda a: (
            np.kron(
                a["lokr_w1"][..., None, None],
                np.einsum("mnhw,mo,ni->oihw", a["lokr_t2"], a["lokr_w2_a"], a["lokr_w2_b"]),
            )
            * 3
            / 2
        ),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind, merged):
    module, shapes, definition = KINDS[kind]
    parts = normals(**shapes)
    tensors = lora_files.kohya({"unet": {module: {**parts, "alpha": np.array(3.0, np.float32)}}})
    found = merged((tensors, 1.0), model=MODEL)
    expected = definition({name: array.astype(np.float64) for name, array in parts.items()})
    assert_close(found["unet", module], expected)
