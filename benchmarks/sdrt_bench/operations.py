"""Work of a graph at given shapes: floating-point operations, and bytes to and from memory.

onnxruntime itself tells the shapes: the graph is run once, unoptimised, with zeros and with profiling on.
What is counted is what is worth counting: matrix products, convolutions and attention.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sdrt.manifest import GraphName, Manifest
from sdrt_bench.peers import Job, Work

Shape = Sequence[int]
_FLOAT32 = 4  # bytes
_GUIDED = 2  # rows of the U-Net's batch
_PROFILE_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


def input_shapes(manifest: Manifest, graph: GraphName, job: Job) -> dict[str, tuple[int, ...]]:
    """Shapes of a graph's inputs for a job's size, one picture; the U-Net is guided."""
    vae, entry = manifest.vae, manifest.graphs[graph]
    size = (job.height // vae.scale_factor, job.width // vae.scale_factor)
    rows = _GUIDED if graph in ("unet", "unet_shallow") else 1
    shapes = {}
    for name, spec in entry.inputs.items():
        # what is free: the batch; height and width; the tokens
        free = iter(size if len(spec.shape) == 4 else (manifest.text[0].max_length,))
        shapes[name] = (rows, *(next(free) if axis is None else axis for axis in spec.shape[1:]))
    return shapes


def count_work(graph: Path, shapes: Mapping[str, Shape]) -> Work:
    """Of one run of an ONNX file with inputs of these shapes."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_mem_reuse = False
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        types = {value.name: _PROFILE_TYPES[value.type] for value in session.get_inputs()}
        session.run(None, {name: np.zeros(shape, types[name]) for name, shape in shapes.items()})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [event["args"] for event in events if event.get("cat") == "Node"]
    counted = [_of_node(node) for node in nodes if "output_type_shape" in node]
    return Work(
        operations=float(sum(operations for operations, _ in counted)),
        traffic=float(sum(numbers for _, numbers in counted)) * _FLOAT32,
    )


def _of_node(node: Mapping[str, Any]) -> tuple[int, int]:
    """Operations, and numbers taken and given where there are operations worth counting."""
    # each input and output is {type: shape}
    inputs: list[Shape] = [next(iter(one.values())) for one in node["input_type_shape"]]
    outputs: list[Shape] = [next(iter(one.values())) for one in node["output_type_shape"]]
    operations = operations_of(node["op_name"], inputs, outputs[0]) if outputs else 0
    return operations, sum(map(prod, (*inputs, outputs[0]))) if operations else 0


def operations_of(operator: str, inputs: Sequence[Shape], output: Shape) -> int:
    """Of one node. 0 for operators that do no more than a few operations for each number."""
    if operator == "MatMul":
        return 2 * prod(output) * inputs[0][-1]
    if operator == "Gemm":
        rows = output[0]
        return 2 * prod(output) * (prod(inputs[0]) // rows)
    if operator == "Conv":
        weight = inputs[1]  # [out, in / group, height, width]
        return 2 * prod(output) * prod(weight[1:])
    if operator == "Attention":
        queries, keys = inputs[0], inputs[1]  # [B, H, S, D], or [B, S, H * D]
        return 2 * keys[-2] * (prod(queries) + prod(output))
    return 0
