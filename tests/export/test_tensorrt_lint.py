"""What TensorRT's parser would refuse is found in the file; what is exported has none of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from sdrt import graphs
from sdrt.bundle import DEMO
from sdrt.errors import BundleError
from sdrt_export.graphs import write_graph
from sdrt_export.random_models import ARCHITECTURES, Architecture, open_random
from sdrt_export.specs import Component, graph_specs
from sdrt_export.tensorrt_lint import Finding, lint, main

FLOAT, INT64, DOUBLE, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE, TensorProto.UINT8
SHIPPED = [*sorted(DEMO.glob("*/model.onnx")), *sorted(graphs.FOLDER.glob("*.onnx"))]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_ships_passes(path: Path) -> None:
    assert lint(path) == []


# Few channels, and two of the ten equal transformer layers in a block of Stable Diffusion XL; everything
# else, such as blocks and activations, is as in the full models.
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
SMALL: dict[str, dict[str, dict[str, Any]]] = {
    "sd15": {
        "text_encoder": TEXT,
        "unet": {"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 32, "attention_head_dim": 8},
    },
    "sd21": {
        "text_encoder": TEXT,
        "unet": {
            "block_out_channels": (32, 64, 64, 64),
            "cross_attention_dim": 32,
            "attention_head_dim": (2, 4, 4, 4),
        },
    },
    "sdxl": {
        "text_encoder": TEXT,
        "text_encoder_2": {**TEXT, "projection_dim": 24},
        "unet": {
            "block_out_channels": (32, 64, 64),
            "transformer_layers_per_block": (1, 2, 2),
            "cross_attention_dim": 64,
            "attention_head_dim": (2, 4, 4),
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 24 + 6 * 8,
        },
        "vae": {"block_out_channels": (32, 32, 64, 64)},
    },
}


def small(name: str) -> Architecture:
    full = ARCHITECTURES[name]
    options: dict[Component, Any] = {
        component: {**given, **SMALL[name].get(component, {})} for component, given in full.options.items()
    }
    return Architecture(options=options, scheduler=full.scheduler)


@pytest.mark.parametrize(
    ("name", "component"),
    [
        # the U-Net of XL has the blocks of the others, and half a minute each adds up
        pytest.param(name, part, marks=[pytest.mark.slow] * (part == "unet" and name != "sdxl"))
        for name, components in SMALL.items()
        for part in components
    ],
)
def test_every_architecture_passes(name: str, component: Component, tmp_path: Path) -> None:
    """In FP16, which is what TensorRT is given."""
    checkpoint = open_random(f"small:{name}", small(name))
    for spec in graph_specs(checkpoint.configs):
        if spec.component == component:
            write_graph(
                spec,
                checkpoint.build(component),
                checkpoint.weights(component),
                tmp_path,
                precision="fp16",
                opset=23,
                half_weights=False,
            )
            assert lint(tmp_path / "model.onnx") == []


def save(path: Path, *nodes: onnx.NodeProto, opset: int = 23, **values: Any) -> Path:
    """A graph of `nodes`. values: arrays are initializers; pairs of a type and a shape are inputs."""
    made = {name for node in nodes for name in node.output if name}
    inputs = [
        helper.make_tensor_value_info(name, *value)
        for name, value in values.items()
        if isinstance(value, tuple)
    ]
    constants = [
        numpy_helper.from_array(value, name)
        for name, value in values.items()
        if isinstance(value, np.ndarray)
    ]
    used = {name for node in nodes for name in node.input}
    outputs = [helper.make_empty_tensor_value_info(name) for name in sorted(made - used)]
    graph = helper.make_graph(list(nodes), "graph", inputs, outputs, constants)
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains), path)
    return path


def node(operator: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    named = [("" if name == "_" else name) for name in inputs.split()]
    return helper.make_node(operator, named, outputs.split(), name=f"node_{operator}", **attributes)


IMAGE = (FLOAT, ["n", 3, "h", "w"])
HEADS = (FLOAT, ["n", 8, "l", 64])
ROWS = (FLOAT, ["n", 8])
SIZES = np.array([1, 1, 2, 2], np.float32)
REFUSED: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], str]] = {
    "operator": ([node("NonZero", "x")], {"x": ROWS}, "no operator that TensorRT is known to take"),
    "string": ([node("StringNormalizer", "x")], {"x": (TensorProto.STRING, [3])}, "no operator"),
    "domain": ([node("Gelu", "x", domain="com.microsoft")], {"x": ROWS}, "of domain com.microsoft"),
    "double": (
        [node("Cast", "x", "d", to=DOUBLE), node("Sin", "d", "s"), node("Cast", "s", to=FLOAT)],
        {"x": ROWS},
        "s is DOUBLE, which TensorRT computes in FLOAT",
    ),
    "double weight": ([node("Mul", "x w")], {"x": (DOUBLE, [8]), "w": np.ones(8)}, "w is DOUBLE"),
    "type": (
        [node("MatMul", "x x")],
        {"x": (INT64, [8, 8])},
        "x is INT64; expected BFLOAT16, FLOAT, FLOAT16",
    ),
    "bytes inside": (
        [node("Cast", "x", "b", to=UINT8), node("Transpose", "b")],
        {"x": ROWS},
        "b is UINT8, which only inputs and outputs of a graph may be",
    ),
    "unknown type": ([node("Sin", "x")], {}, "the type of x cannot be told"),
    "resize": ([node("Resize", "x _ s", mode="cubic")], {"x": IMAGE, "s": SIZES}, "mode 'cubic'"),
    "antialias": (
        [node("Resize", "x _ s", mode="linear", antialias=1)],
        {"x": IMAGE, "s": SIZES},
        "antialias 1 is not supported; expected 0",
    ),
    "resize axes": (
        [node("Resize", "x _ s", axes=[2, 3])],
        {"x": IMAGE, "s": SIZES[2:]},
        "axes [2, 3] are not all 4 in their order",
    ),
    "attention of 3 axes": (
        [node("Attention", "x x x", q_num_heads=2, kv_num_heads=2)],
        {"x": (FLOAT, ["n", "l", 16])},
        "x has 3 axes; expected 4",
    ),
    "mask of 2 axes": (
        [node("Attention", "x x x m")],
        {"x": HEADS, "m": (FLOAT, ["l", "l"])},
        "m has 2 axes; expected 4",
    ),
    "past": (
        [node("Attention", "x x x _ p p", "y k v")],
        {"x": HEADS, "p": HEADS},
        "p is a past state or a length",
    ),
    "present": ([node("Attention", "x x x", "y k v")], {"x": HEADS}, "output k is beyond the first"),
    "softcap": ([node("Attention", "x x x", softcap=2.0)], {"x": HEADS}, "softcap is not supported"),
    "mean of a layer norm": (
        [node("LayerNormalization", "x w", "y mean")],
        {"x": ROWS, "w": np.ones(8, np.float32)},
        "output mean is beyond the first",
    ),
    "axes of a sum": (
        [node("ReduceSum", "x axes")],
        {"x": ROWS, "axes": (INT64, [1])},
        "axes is axes, which is computed; expected a constant",
    ),
    "axes of an unsqueeze": ([node("Unsqueeze", "x a")], {"x": ROWS, "a": (INT64, [1])}, "which is computed"),
    "indices of a pool": ([node("MaxPool", "x", "y i", kernel_shape=[2, 2])], {"x": IMAGE}, "output i"),
    "dilated pool": (
        [node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2])],
        {"x": IMAGE},
        "dilations other than 1",
    ),
    "pool of a sequence": (
        [node("MaxPool", "x", kernel_shape=[2])],
        {"x": (FLOAT, ["n", 3, "l"])},
        "pools 3 axes; expected 4 or 5",
    ),
    "scatter": (
        [node("ScatterND", "x i u", reduction="add")],
        {"x": ROWS, "i": (INT64, [2, 1]), "u": (FLOAT, [2, 8])},
        "reduction 'add' is not supported; expected none",
    ),
    "top k": ([node("TopK", "x k", "y i", sorted=0)], {"x": ROWS, "k": np.array([2])}, "sorted 0"),
    "large top k": ([node("TopK", "x k", "y i")], {"x": ROWS, "k": np.array([4000])}, "3840 or more"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    nodes, values, says = REFUSED[case]
    found = lint(save(tmp_path / "x.onnx", *nodes, **values))
    assert any(says in finding.why for finding in found), found
    assert {finding.node for finding in found} <= {one.name for one in nodes}


ACCEPTED: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "resize": ([node("Resize", "x _ s", mode="linear", antialias=0)], {"x": IMAGE, "s": SIZES}),
    "attention": ([node("Attention", "x x x m")], {"x": HEADS, "m": (FLOAT, [1, 1, "l", "l"])}),
    "bytes at the end": ([node("Cast", "x", to=UINT8)], {"x": ROWS}),
    "bytes at the beginning": ([node("Cast", "x", to=FLOAT)], {"x": (UINT8, [8])}),
    "axes from a constant": (
        [node("Constant", "", "a", value_ints=[0]), node("Unsqueeze", "x a")],
        {"x": ROWS},
    ),
    "computed constants": (
        [node("Add", "a a", "b"), node("Unsqueeze", "x b")],
        {"x": ROWS, "a": np.array([0])},
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_is_accepted(case: str, tmp_path: Path) -> None:
    nodes, values = ACCEPTED[case]
    assert lint(save(tmp_path / "x.onnx", *nodes, **values)) == []


@pytest.mark.parametrize(("opset", "passes"), [(8, False), (9, True), (24, True), (25, False)])
def test_opsets(opset: int, passes: bool, tmp_path: Path) -> None:
    found = lint(save(tmp_path / "x.onnx", node("Sin", "x"), opset=opset, x=ROWS))
    assert bool(found) != passes
    assert passes or found[0] == Finding("model", "opset", f"{opset} is not in 9 to 24")


def test_a_module_of_torch_that_cannot_run_there(tmp_path: Path) -> None:
    """As an exported graph would have it, not one made by hand."""

    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            wide = torch.nn.functional.interpolate(x, scale_factor=2.0, mode="bicubic", antialias=True)
            return (wide.double() * 0.1).float()

    torch.onnx.export(
        Model().eval(), (torch.zeros(1, 3, 8, 8),), tmp_path / "x.onnx", dynamo=True, verbose=False
    )
    said = "\n".join(finding.why for finding in lint(tmp_path / "x.onnx"))
    assert "mode 'cubic'" in said and "antialias 1" in said and "is DOUBLE" in said


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"x\.onnx is not an ONNX graph"):
        lint(tmp_path / "x.onnx")


def test_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = save(tmp_path / "bad.onnx", node("NonZero", "x"), x=ROWS)
    assert main([str(SHIPPED[0]), str(bad)]) == 1
    assert capsys.readouterr().out == (
        f"{bad}: node_NonZero (NonZero): no operator that TensorRT is known to take\n"
    )
    assert main([str(SHIPPED[0])]) == 0
