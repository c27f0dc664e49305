"""What AOTInductor is given to compile computes what the graphs do, for every family; nothing is compiled."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from sdrt.backends.aoti_weights import GraphWeights
from sdrt.bundle import Bundle
from sdrt_export import engines
from sdrt_export.aoti_program import trace
from sdrt_export.engine_shapes import Shapes

torch = pytest.importorskip("torch")

from tiny_models import FAMILIES  # noqa: E402


def feed(task, name):
    spec, shape = task.signature[0][name], task.inputs[name].opt
    rng = np.random.default_rng(0)
    if spec.dtype == "int64":
        return rng.integers(0, 300, shape)
    scale = 999 if name in ("timestep", "time_ids") else 1
    return (np.abs(rng.normal(size=shape)) * scale).astype(spec.dtype)


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True], ids=["", "fused"])
@pytest.mark.parametrize("family", FAMILIES)
def test_programs_are_the_graphs(family, fused, exported):
    bundle = Bundle.open(exported(family)[1])
    for task in engines._tasks(bundle, Shapes().profile(bundle.manifest)):
        if task.small:
            continue
        program = trace(task, device="cpu", channels_last=True, fused_projections=fused)
        module = program.exported.module()
        tensors = dict([*module.named_parameters(), *module.named_buffers()])
        for name, values in GraphWeights(task.path, {}, "cpu").tensors(program.constants).items():
            tensors[name].data.copy_(values)
        feeds = {name: feed(task, name) for name in task.signature[0]}
        with torch.no_grad():
            made = module(*map(torch.from_numpy, feeds.values()))
        expected = onnxruntime.InferenceSession(task.path, providers=["CPUExecutionProvider"]).run(
            None, feeds
        )
        for name, ours, theirs in zip(task.signature[1], made, expected, strict=True):
            # as export holds its graphs to
            error = np.linalg.norm(ours.numpy() - theirs) / np.linalg.norm(theirs)
            assert error < 1e-5, (task.graph, name)
