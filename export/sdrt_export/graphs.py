"""From a PyTorch module to an ONNX file: torch.onnx, then a few changes to the graph.

Initializers keep the checkpoint's parameter names. `torch.onnx` writes a linear layer over [B, L, D] as a
product with the transposed weight; it is stored transposed, under its name with `.transposed` behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxscript import ir
from torch import Tensor, nn

from sdrt.errors import ExportError
from sdrt.manifest import Precision
from sdrt.onnx_initializers import TRANSPOSED
from sdrt.tensors import TensorSpec

from .group_norm import write_out_group_norms
from .noise import quiet
from .parameters import Weights, reserve
from .specs import GraphSpec

FILE_NAME = "model.onnx"
DATA_NAME = FILE_NAME + ".data"
FUSED_NAME = "onnxruntime.onnx"
FLOAT32_NAME = "float32.onnx"
WHOLE_NAME = "all_outputs.onnx"  # what the bundle runs where optimum wants another FILE_NAME
IR_VERSION = 10  # onnxruntime 1.31 refuses 14
PREFIX = "model."
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}
SINES = ("timestep", "time_ids")  # FP16 has no 999.5 and no 2049
WORTH_HALVING = 1024  # elements; every Cast costs load time, and biases and norms hardly take space
# One size of example suffices, as long as no two free axes share a number and none is 1.
EXAMPLE = {"batch": 2, "height": 9, "width": 13, "sequence": 5}


def write_graph(
    spec: GraphSpec,
    model: nn.Module,
    weights: Weights,
    folder: Path,
    *,
    precision: Precision,
    opset: int,
    half_weights: bool,
) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Export an empty `model` with its weights as `folder`/model.onnx and model.onnx.data.

    half_weights: store the float32 weights as float16, with a Cast behind each.
    Returns the specs of the graph's inputs and outputs. The model is used up: its upsamplers are replaced.
    Raises ExportError if a weight is no float16 number with `half_weights`.
    """
    dtype = DTYPES[precision]
    graph = _trace(spec, reserve(model, dtype), opset, dtype)
    _fill_in(graph.graph, weights, dtype)
    _transpose_weights(graph.graph)
    _optimize(graph, weights)
    write_out_group_norms(graph.graph)
    _broadcast_timestep(graph.graph)
    _name_axes(graph.graph, spec)
    strip(graph, spec)
    if half_weights:
        _halve_weights(graph.graph, spec)
    return save_graph(graph, spec, folder)


def save_graph(
    graph: ir.Model, spec: GraphSpec, folder: Path
) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Write a graph as `folder`/model.onnx and model.onnx.data.

    Returns the specs of its inputs and outputs. The graph is used up: its weights are gone.
    """
    for value in graph.graph.initializers.values():
        value.type = value.shape = None  # the tensor itself says so
    # Large tensors start on 64 KiB, so that every system can map them into memory.
    ir.save(graph, folder / FILE_NAME, external_data=DATA_NAME, alignment=65536)
    # onnxscript's rewrite rules remember the last graph they saw; it must not keep the weights in memory.
    for value in graph.graph.initializers.values():
        value.const_value = None
    return _tensor_specs(graph.graph.inputs), _tensor_specs(graph.graph.outputs)


def split_plain(folder: Path) -> Path:
    """Leave a graph's first output alone to `folder`/model.onnx, and move the whole graph beside it.

    Both read the same weights. optimum's pipelines take any other output of a U-Net for its prediction.
    """
    path, whole = folder / FILE_NAME, folder / WHOLE_NAME
    model = onnx.load(path, load_external_data=False)
    path.rename(whole)
    del model.graph.output[1:]
    path.write_bytes(model.SerializeToString())
    return whole


def _trace(spec: GraphSpec, model: nn.Module, opset: int, dtype: torch.dtype) -> ir.Model:
    example = to_precision(spec.random_inputs(**EXAMPLE, seed=0), dtype)
    free = torch.export.Dim.DYNAMIC
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                spec.module(model).eval(),
                kwargs=example,
                dynamo=True,
                verbose=False,
                optimize=False,
                opset_version=opset,
                input_names=list(spec.inputs),
                output_names=list(spec.outputs),
                dynamic_shapes={
                    name: {axis: free for axis, size in enumerate(axes) if isinstance(size, str)}
                    for name, axes in spec.inputs.items()
                },
            )
    except Exception as error:  # of many kinds: dynamo's, the exporter's, the operators'
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ExportError(f"torch.onnx cannot export the {spec.name} at opset {opset}: {line}") from error
    assert program is not None
    return program.model


def to_precision(inputs: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Cast what a graph of this precision takes in it: all floating inputs but those that go into sines."""
    return {
        name: value.to(dtype) if value.is_floating_point() and name not in SINES else value
        for name, value in inputs.items()
    }


def _fill_in(graph: ir.Graph, weights: Weights, dtype: torch.dtype) -> None:
    """Put the weights in the place of the parameters that were traced; each is read when it is written."""
    for value in graph.initializers.values():
        name = value.name.removeprefix(PREFIX)
        if value.name.startswith(PREFIX) and name in weights:
            value.const_value = _lazy(
                value.name, value.const_value.dtype, value.const_value.shape, _reading(weights, name, dtype)
            )


def _reading(weights: Weights, name: str, dtype: torch.dtype) -> Callable[[], Any]:
    return lambda: weights[name].to(dtype).numpy()


def _transpose_weights(graph: ir.Graph) -> None:
    """Replace each Transpose of a weight by the transposed weight, made only when it is written."""
    for node in list(graph):
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is None or weight.name not in graph.initializers:
            continue
        order = list(node.attributes["perm"].as_ints())
        source = weight.const_value
        name = weight.name + TRANSPOSED
        shape = ir.Shape([source.shape[axis] for axis in order])
        if name not in graph.initializers:
            tensor = _lazy(name, source.dtype, shape, _transposing(source, order))
            graph.register_initializer(
                ir.Value(name=name, shape=shape, type=ir.TensorType(source.dtype), const_value=tensor)
            )
        ir.convenience.replace_all_uses_with(node.outputs[0], graph.initializers[name])
        graph.remove(node, safe=True)
        if not weight.uses():
            del graph.initializers[weight.name]
            weight.const_value = None


def _transposing(source: ir.TensorProtocol, order: list[int]) -> Callable[[], Any]:
    return lambda: source.numpy().transpose(order)


def _lazy(name: str, dtype: ir.DataType, shape: ir.Shape, values: Callable[[], Any]) -> ir.LazyTensor:
    return ir.LazyTensor(lambda: ir.tensor(values(), name=name), dtype=dtype, shape=shape, name=name)


def _optimize(graph: ir.Model, weights: Weights) -> None:
    """Fold and simplify; parameters stay what they are, also small ones, and those that are equal."""
    from onnxscript import optimizer

    parameters = {
        name: value.const_value
        for name, value in graph.graph.initializers.items()
        if name.removeprefix(PREFIX).removesuffix(TRANSPOSED) in weights
    }
    for name in parameters:
        graph.graph.initializers[name].const_value = None
    with quiet():
        optimizer.optimize_ir(graph)
    for name, tensor in parameters.items():
        if name in graph.graph.initializers:
            graph.graph.initializers[name].const_value = tensor


def _broadcast_timestep(graph: ir.Graph) -> None:
    """Let one timestep serve all rows: [1] or [R] -> [R]."""
    timestep = next((value for value in graph.inputs if value.name == "timestep"), None)
    if timestep is None:
        return
    users = [(node, index) for node, index in timestep.uses()]
    rows = ir.node("Shape", [graph.inputs[0]], attributes={"start": 0, "end": 1}, name="node_rows")
    expand = ir.node("Expand", [timestep, rows.outputs[0]], name="node_timestep_per_row")
    rows.outputs[0].name = "rows"
    expand.outputs[0].name = "timestep_per_row"
    for node, index in users:
        node.replace_input_with(index, expand.outputs[0])
    graph.insert_before(graph[0], [rows, expand])


def _name_axes(graph: ir.Graph, spec: GraphSpec) -> None:
    for values, named in ((graph.inputs, spec.inputs), (graph.outputs, spec.outputs)):
        for value, (name, axes) in zip(values, named.items(), strict=True):
            assert value.name == name
            value.shape = ir.Shape(axes)


def strip(model: ir.Model, spec: GraphSpec) -> None:
    """Leave what a reader of the graph needs: no stack traces, no intermediate shapes, no prefix."""
    graph = model.graph
    model.ir_version = IR_VERSION
    model.doc_string = graph.doc_string = None
    graph.name = spec.name
    model.metadata_props.clear()
    graph.metadata_props.clear()
    ends = {id(value) for value in (*graph.inputs, *graph.outputs)}
    for node in graph:
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
            if id(value) not in ends:
                value.shape = value.type = None
    for value in list(graph.initializers.values()):
        value.metadata_props.clear()
        value.name = value.name.removeprefix(PREFIX)


def _halve_weights(graph: ir.Graph, spec: GraphSpec) -> None:
    first = graph[0]
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor.dtype != ir.DataType.FLOAT or tensor.size < WORTH_HALVING:
            continue
        if not _is_half(tensor):
            if "." not in value.name:  # a constant of the code, such as the frequencies of the time embedding
                continue
            raise ExportError(
                f"{value.name} of the {spec.name} is not exact in FP16; leave out --half-weights, "
                "or export from an FP16 checkpoint"
            )
        cast = ir.node("Cast", [value], attributes={"to": ir.DataType.FLOAT}, name=f"node_{value.name}.cast")
        cast.outputs[0].name = value.name + ".float32"
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        cast.replace_input_with(0, value)
        graph.insert_before(first, cast)
        value.const_value = _lazy(value.name, ir.DataType.FLOAT16, tensor.shape, _halving(tensor))
        value.dtype = ir.DataType.FLOAT16


def _is_half(tensor: ir.TensorProtocol) -> bool:
    values = torch.from_numpy(tensor.numpy())
    return torch.equal(values.half().float(), values)


def _halving(tensor: ir.TensorProtocol) -> Callable[[], Any]:
    return lambda: tensor.numpy().astype("float16")


def _tensor_specs(values: list[ir.Value]) -> dict[str, TensorSpec]:
    return {
        value.name: TensorSpec(
            dtype=str(value.dtype.numpy()),
            shape=tuple(axis if isinstance(axis, int) else None for axis in value.shape),
        )
        for value in values
    }
