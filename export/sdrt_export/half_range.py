"""What leaves the range of FP16 in a network, found by running it.

The VAE of Stable Diffusion XL does, others do for some pictures. No config says so for sure, hence the graph
is run in FP32, a VAE on pictures or their latents, and the largest number of each value is looked at. Nodes
that make or read one which comes near to FP16's largest compute in FP32. It is not run in FP16: onnxruntime
has few such kernels for CPUs, and drops the roundings between those for FP32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from sdrt.backends.failures import one_line
from sdrt.errors import ExportError
from sdrt.manifest import VaeSettings

from .fidelity import TRIALS, open_session
from .float32 import WIDE, half_values, widen
from .graphs import to_precision
from .modules import VaeEncoderGraph
from .parameters import Weights, streaming
from .specs import GraphSpec

LARGEST = 65504.0
MARGIN = 8.0  # other pictures may go that much farther than those of the trial
_LATENTS = 32  # height and width of the trial, in latent pixels
_PROBED = ".largest"
_TEMPORARY = ".probed.onnx"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What computes in FP32: `nodes` of `all_nodes`. largest: number that was met anywhere."""

    nodes: int
    all_nodes: int
    largest: float


def trial_inputs(
    spec: GraphSpec, model: nn.Module, weights: Weights, settings: VaeSettings
) -> dict[str, Tensor]:
    """Pictures for a VAE's encoder; for its decoder their latents, and noise as it comes from a sampler.

    What other networks are given is not far from random. model: the component, empty before and after.
    """
    if spec.component != "vae":
        return spec.random_inputs(**TRIALS[0], seed=0)
    pictures = _pictures(_LATENTS * settings.scale_factor)
    if spec.module is VaeEncoderGraph:
        return {"sample": pictures}
    with streaming(model, weights), torch.inference_mode():
        (parameters,) = VaeEncoderGraph.reference(model, pictures)
    means = parameters[:, : settings.latent_channels]
    noise = torch.randn(means[:1].shape, generator=torch.Generator().manual_seed(0))
    return {"latent_sample": torch.cat([means, noise / settings.scaling_factor])}


def keep_in_range(path: Path, inputs: Mapping[str, Tensor]) -> Kept:
    """Let nodes of the FP16 graph at `path` compute in FP32 that make or read what may leave the range."""
    model = onnx.load(path, load_external_data=False)
    largest = _measure(path, inputs)
    too_large = {name for name, value in largest.items() if not value <= LARGEST / MARGIN}
    nodes = {
        node.output[0] for node in model.graph.node if too_large.intersection([*node.input, *node.output])
    }
    if nodes:
        widen(model, nodes)
        path.write_bytes(model.SerializeToString())
    count = sum(node.op_type != "Constant" for node in model.graph.node)
    return Kept(nodes=len(nodes), all_nodes=count, largest=max(largest.values()))


def _measure(path: Path, inputs: Mapping[str, Tensor]) -> dict[str, float]:
    """The largest magnitude of each FP16 value that a node makes, computed in FP32."""
    model = onnx.load(path, load_external_data=False)
    made = {name for node in model.graph.node if node.op_type != "Constant" for name in node.output}
    names = sorted(half_values(model) & made)
    widen(model)
    there = {name for node in model.graph.node for name in node.output}
    names = [name for name in names if name + WIDE in there]
    _probe(model, names)
    probed = path.with_name(_TEMPORARY)
    try:
        probed.write_bytes(model.SerializeToString())
        feeds = {name: value.numpy() for name, value in to_precision(inputs, torch.float16).items()}
        peaks = open_session(probed, "fp16").run([name + _PROBED for name in names], feeds)
    except Exception as error:  # onnxruntime's have no base class of their own
        raise ExportError(f"onnxruntime cannot run {path}: {one_line(error)}") from error
    finally:
        probed.unlink(missing_ok=True)
    return {name: float(peak) for name, peak in zip(names, peaks, strict=True)}


def _probe(model: onnx.ModelProto, names: list[str]) -> None:
    """Give the largest magnitude of values that are there in FP32 as outputs of the graph.

    Each is found behind the node that makes the value: nodes run in their order in the file, and at its end
    all values would have to be kept until then, 10 GB for a VAE.
    """
    wanted = {name + WIDE: name for name in names}
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for output in node.output:
            if (name := wanted.get(output)) is not None:
                magnitudes = f"{name}{_PROBED}.all"
                nodes.append(helper.make_node("Abs", [output], [magnitudes]))
                nodes.append(helper.make_node("ReduceMax", [magnitudes], [name + _PROBED], keepdims=0))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.output.extend(
        helper.make_tensor_value_info(name + _PROBED, TensorProto.FLOAT, []) for name in names
    )


def _pictures(size: int) -> Tensor:
    """Two pictures [2, 3, size, size] in -1..1: one smooth with detail on every scale, one of hard edges."""
    generator = torch.Generator().manual_seed(0)
    smooth, edges = torch.zeros(1, 3, size, size), torch.zeros(1, 3, size, size)
    cells = 2
    while cells <= size:
        drawn = torch.rand(1, 3, cells, cells, generator=generator) * 2 - 1
        smooth += nn.functional.interpolate(drawn, size=(size, size), mode="bilinear") * (2 / cells**0.5)
        # ever smaller blocks of full colours, in ever fewer places
        blocks = nn.functional.interpolate(drawn.sign(), size=(size, size))
        where = torch.rand(1, 1, cells, cells, generator=generator) < (1.0 if cells == 2 else 0.4)
        edges = torch.where(nn.functional.interpolate(where.float(), size=(size, size)) > 0, blocks, edges)
        cells *= 2
    return torch.cat([smooth.clamp(-1, 1), edges])
