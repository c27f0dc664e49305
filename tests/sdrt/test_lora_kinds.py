"""Changes that depend on the model's weights, or are not of matrices: by their definitions."""

from __future__ import annotations

import lora_files
import numpy as np
import pytest

from sdrt.bundle import DEMO
from sdrt.errors import InputError
from sdrt.lora import adapt, add
from sdrt.lora.overrides import merged_initializers, read_parameters

RNG = np.random.default_rng(0)
WEIGHTS = {
    name: RNG.normal(size=shape).astype(np.float32)
    for name, shape in {
        "linear.weight": (8, 6),
        "linear.bias": (8,),
        "square.weight": (8, 8),
        "conv.weight": (8, 6, 3, 3),
        "norm.weight": (8,),
        "norm.bias": (8,),
    }.items()
}
MODEL = {"unet": {name: weight.shape for name, weight in WEIGHTS.items()}}


def normals(*shape, scale=1.0):
    return (scale * RNG.normal(size=shape)).astype(np.float32)


@pytest.fixture
def merged(tmp_path):
    """The weights with one file in them, in float64 as far as they changed."""

    def merged(tensors, weight=1.0):
        path = lora_files.write(tmp_path / "x.safetensors", tensors)
        found = {}
        for name, changes in adapt([(path, weight)], MODEL).changes["unet"].items():
            found[name] = WEIGHTS[name].copy()
            add(found[name], changes)
            # as graphs store linear layers
            turned = WEIGHTS[name].T.copy()
            add(turned.T, changes)
            np.testing.assert_array_equal(turned.T, found[name])
        return found

    return merged


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


def norms(weight, axis):
    others = tuple(one for one in range(weight.ndim) if one != axis)
    return np.sqrt((weight.astype(np.float64) ** 2).sum(axis=others, keepdims=True))


@pytest.mark.parametrize("module", ["linear", "square", "conv"])
@pytest.mark.parametrize("axis", ["outputs", "inputs", "outputs of PEFT"])
@pytest.mark.parametrize("strength", [1.0, -0.6])
def test_dora(module, axis, strength, merged):
    weight = WEIGHTS[f"{module}.weight"]
    kernel = weight.shape[2:]
    factors = {
        "down": normals(2, *weight.shape[1:], scale=0.3),
        "up": normals(8, 2, *(1 for _ in kernel), scale=0.3),
        "alpha": np.array(3, np.int64),
    }
    count = weight.shape[axis == "inputs"]
    ones = (1,) * len(kernel)
    magnitudes = np.abs(normals(count)) + 0.5
    if axis == "outputs of PEFT":
        tensors = lora_files.peft({"unet": {module: factors}})
        stored = magnitudes.reshape(1, count, *ones) if kernel else magnitudes
        tensors[f"unet.{module}.lora_magnitude_vector"] = stored
    else:
        tensors = lora_files.kohya({"unet": {module: factors}})
        stored = magnitudes.reshape((1, count, *ones) if axis == "inputs" else (count, 1, *ones))
        tensors[f"lora_unet_{module}.dora_scale"] = stored
    summed = weight + strength * lora_files.delta(factors, weight.shape)
    along = int(axis == "inputs")
    length = norms(summed, along)
    expected = magnitudes.reshape(length.shape) * summed / length
    assert_close(merged(tensors, strength)[f"{module}.weight"], expected)


def test_full_differences_of_all_parameters(merged):
    differences = {name: normals(*weight.shape) for name, weight in WEIGHTS.items()}
    ends = {"norm.weight": "w_norm", "norm.bias": "b_norm", "linear.bias": "diff_b"}
    tensors = {
        f"lora_unet_{name.split('.')[0]}.{ends.get(name, 'diff')}": array
        for name, array in differences.items()
    }
    found = merged(tensors, 0.5)
    assert set(found) == set(WEIGHTS)
    for name, array in differences.items():
        assert_close(found[name], WEIGHTS[name] + 0.5 * array.astype(np.float64))


@pytest.mark.parametrize("module", ["linear", "square", "conv"])
@pytest.mark.parametrize("old", [False, True])
def test_glora(module, old, merged):
    """W + (W A + B) alpha / rank; the first releases swapped the factors."""
    weight = WEIGHTS[f"{module}.weight"].astype(np.float64)
    inputs, kernel = weight.shape[1], weight.shape[2:]
    ones = (1,) * len(kernel)
    a = [normals(inputs, 2, *ones), normals(2, inputs, *ones)]
    b = [normals(8, 2, *ones), normals(2, inputs, *kernel)]
    names = ("a2", "a1", "b2", "b1") if old else ("a1", "a2", "b1", "b2")
    tensors = {f"lora_unet_{module}.{n}.weight": x for n, x in zip(names, (*a, *b), strict=True)}
    tensors[f"lora_unet_{module}.alpha"] = np.array(3.0, np.float32)
    mixing = a[0].reshape(inputs, 2).astype(np.float64) @ a[1].reshape(2, inputs)
    added = (b[0].reshape(8, 2).astype(np.float64) @ b[1].reshape(2, -1)).reshape(weight.shape)
    expected = weight + 0.8 * 3 / 2 * (np.einsum("oi...,ij->oj...", weight, mixing) + added)
    assert_close(merged(tensors, 0.8)[f"{module}.weight"], expected)


@pytest.mark.parametrize("module", ["linear", "conv"])
@pytest.mark.parametrize("on_input", [False, True])
def test_ia3(module, on_input, merged):
    weight = WEIGHTS[f"{module}.weight"].astype(np.float64)
    count = weight.shape[1] if on_input else 8
    scales = normals(count)
    tensors = {
        f"lora_unet_{module}.weight": scales if module == "linear" else scales.reshape(1, count, 1, 1),
        f"lora_unet_{module}.on_input": np.array(int(on_input)),
    }
    along = scales.reshape((1, -1) if on_input else (-1, 1)).reshape(
        *((1, count) if on_input else (count, 1)), *(1 for _ in weight.shape[2:])
    )
    assert_close(merged(tensors, 0.5)[f"{module}.weight"], weight * (1 + 0.5 * along))


def rotation(blocks, bound=None):
    """Block-diagonal (I + Q) (I - Q)^-1."""
    skew = blocks.astype(np.float64) - blocks.astype(np.float64).swapaxes(-1, -2)
    if bound is not None and np.linalg.norm(skew) > bound:
        skew = skew * bound / np.linalg.norm(skew)
    size = blocks.shape[-1]
    identity = np.eye(size)
    turns = (identity + skew) @ np.linalg.inv(identity - skew)
    if blocks.ndim == 4:
        return [diagonal(one) for one in turns]
    return diagonal(turns)


def diagonal(blocks):
    count, size = blocks.shape[:2]
    whole = np.zeros((count * size, count * size))
    for i, block in enumerate(blocks):
        whole[i * size : (i + 1) * size, i * size : (i + 1) * size] = block
    return whole


@pytest.mark.parametrize("module", ["linear", "conv"])
@pytest.mark.parametrize("alpha", [None, 0, 0.05])
@pytest.mark.parametrize("rescaled", [False, True])
def test_oft(module, alpha, rescaled, merged):
    weight = WEIGHTS[f"{module}.weight"].astype(np.float64)
    blocks = normals(4, 2, 2, scale=0.5)
    tensors = {f"lora_unet_{module}.oft_blocks": blocks}
    if alpha is not None:
        tensors[f"lora_unet_{module}.alpha"] = np.array(alpha)
    turn = rotation(blocks, alpha * 8 if alpha else None)
    np.testing.assert_allclose(turn @ turn.T, np.eye(8), atol=1e-12)
    expected = (turn.T @ weight.reshape(8, -1)).reshape(weight.shape)
    if rescaled:
        rescale = 1 + normals(8, *(1 for _ in weight.shape[1:]), scale=0.1)
        tensors[f"lora_unet_{module}.rescale"] = rescale
        expected = expected * rescale
    assert_close(merged(tensors)[f"{module}.weight"], expected)
    halfway = weight + 0.5 * (expected - weight)
    assert_close(merged(tensors, 0.5)[f"{module}.weight"], halfway)


@pytest.mark.parametrize("module", ["linear", "conv"])
def test_boft(module, merged):
    """Factor i turns pairs of halves of blocks that are 2^i halves apart."""
    weight = WEIGHTS[f"{module}.weight"].astype(np.float64)
    blocks = normals(2, 2, 4, 4, scale=0.3)
    expected = weight.reshape(8, -1)
    for i, turn in enumerate(rotation(blocks)):
        half = 2**i * 2
        order = [
            c * 2 * half + g * half + k for c in range(8 // (2 * half)) for k in range(half) for g in (0, 1)
        ]
        shuffle = np.eye(8)[order]
        expected = shuffle.T @ turn @ shuffle @ expected
    tensors = {f"lora_unet_{module}.oft_blocks": blocks}
    assert_close(merged(tensors)[f"{module}.weight"], expected.reshape(weight.shape))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.float16])
def test_alpha_of_any_type(dtype, merged):
    factors = {"down": normals(4, 6), "up": normals(8, 4), "alpha": np.array(2, dtype)}
    found = merged(lora_files.kohya({"unet": {"linear": factors}}))["linear.weight"]
    assert_close(found, WEIGHTS["linear.weight"] + lora_files.delta(factors, (8, 6)))


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_eight_bits(dtype, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    down, up = (torch.from_numpy(normals(*shape)).to(getattr(torch, dtype)) for shape in ((4, 6), (8, 4)))
    save_file(
        {"unet.linear.lora_A.weight": down, "unet.linear.lora_B.weight": up}, tmp_path / "x.safetensors"
    )
    found = np.zeros((8, 6), np.float32)
    add(found, adapt([(tmp_path / "x.safetensors", 1.0)], MODEL).changes["unet"]["linear.weight"])
    assert_close(found, up.double().numpy() @ down.double().numpy())


@pytest.mark.parametrize(
    ("prefix", "component"),
    [
        ("text_encoders.clip_l.transformer.text_model.", "text_encoder"),
        ("text_encoders.clip_l.text_model.", "text_encoder"),
        ("clip_l.transformer.text_model.", "text_encoder"),
        ("clip_l.text_model.", "text_encoder"),
        ("text_encoders.clip_h.transformer.text_model.", "text_encoder"),
        ("text_encoders.clip_g.transformer.text_model.", "text_encoder_2"),
        ("clip_g.transformer.text_model.", "text_encoder_2"),
    ],
)
@pytest.mark.parametrize("ends", [("lora_down.weight", "lora_up.weight"), ("lora_A.weight", "lora_B.weight")])
def test_names_of_comfyui(prefix, component, ends, tmp_path):
    name = "encoder.layers.0.mlp.fc1"
    model = {one: {f"{name}.weight": (8, 6)} for one in ("text_encoder", "text_encoder_2")}
    factors = {"down": normals(4, 6), "up": normals(8, 4)}
    tensors = {f"{prefix}{name}.{end}": array for end, array in zip(ends, factors.values(), strict=True)}
    path = lora_files.write(tmp_path / "x.safetensors", tensors)
    changes = adapt([(path, 1.0)], model).changes
    assert {one: list(of_one) for one, of_one in changes.items()} == {component: [f"{name}.weight"]}
    found = np.zeros((8, 6), np.float32)
    add(found, changes[component][f"{name}.weight"])
    assert_close(found, lora_files.delta(factors, (8, 6)))


@pytest.mark.parametrize(
    ("module", "graph"),
    [
        ("conv_norm_out", "unet"),
        ("down_blocks.0.attentions.0.transformer_blocks.0.norm1", "unet"),
        ("down_blocks.0.resnets.0.conv1", "unet"),
        ("encoder.layers.0.mlp.fc1", "text_encoder"),
        ("final_layer_norm", "text_encoder"),
    ],
)
def test_biases_and_norms_of_a_graph(module, graph, tmp_path):
    """Group norms are stored as [C, 1, 1], which is not their shape in any file."""
    from sdrt.onnx_initializers import read_initializers

    path = DEMO / graph / "model.onnx"
    parameters = read_parameters(path)
    names = [f"{module}.weight", f"{module}.bias"]
    ends = ("diff", "diff_b") if len(parameters[names[0]]) > 1 else ("w_norm", "b_norm")
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[graph] + module.replace(".", "_")
    differences = [normals(*parameters[name]) for name in names]
    tensors = {f"{prefix}.{end}": array for end, array in zip(ends, differences, strict=True)}
    lora = lora_files.write(tmp_path / "x.safetensors", tensors)
    changes = adapt([(lora, 1.0)], {graph: parameters}).changes[graph]
    assert set(changes) == set(names)
    stored = read_initializers(path)
    merged = merged_initializers(path, changes)
    assert len(merged) == 2
    for name, array in merged.items():
        before = stored[name].read()
        assert array.shape == before.shape and array.dtype == before.dtype
        difference = differences[name.removesuffix(".transposed").endswith(".bias")]
        added = difference.T if name.endswith(".transposed") else difference.reshape(before.shape)
        expected = (before.astype(np.float32) + added).astype(before.dtype)
        np.testing.assert_array_equal(array, expected)


FACTORS = [
    ("lora_down.weight", "lora_up.weight"),
    ("lora_down.weight", "lora_up.weight", "dora_scale"),
    ("lora_down.weight", "lora_up.weight", "lora_mid.weight"),
    ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    ("lokr_w1", "lokr_w2"),
    ("lokr_w1_a", "lokr_w1_b", "lokr_w2"),
    ("lokr_w1", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    ("diff", "diff_b"),
    ("w_norm", "b_norm"),
    ("a1.weight", "a2.weight", "b1.weight", "b2.weight"),
    ("oft_blocks", "rescale"),
    ("oft_blocks", "alpha"),
    ("weight", "on_input"),
]


@pytest.mark.parametrize("names", FACTORS, ids=" ".join)
def test_factors_of_any_shapes_fit_or_are_refused(names, tmp_path):
    """Empty axes, too many or too few of them, and sizes that do not belong together."""
    rng = np.random.default_rng(1)
    path = tmp_path / "x.safetensors"
    refused = 0
    for _ in range(300):
        module = rng.choice(["linear", "square", "conv", "norm"])
        tensors = {
            f"lora_unet_{module}.{name}": np.ones(
                rng.choice([0, 1, 2, 4, 6, 8], rng.integers(0, 5)), np.float32
            )
            for name in names
        }
        lora_files.write(path, tensors)
        try:
            for name, changes in adapt([(path, 0.5)], MODEL).changes["unet"].items():
                add(WEIGHTS[name].copy(), changes)
        except InputError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 100
