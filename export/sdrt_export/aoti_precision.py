"""The precisions of a graph's nodes, given to the layers of a PyTorch module.

An FP16 graph computes in FP32 where numbers leave FP16's range (`half_range.py`). Which layers these are
stands in its file: their weights are read through a Cast. What lies between layers, sums and activations,
follows: PyTorch computes in the wider type of what it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from torch import Tensor, nn

from sdrt.onnx_initializers import TRANSPOSED

from .float32 import WIDE

_NORMS = (nn.GroupNorm, nn.LayerNorm)


def wide_parameters(graph: Path) -> set[str]:
    """The FP16 weights that a graph reads in FP32."""
    model = onnx.load(graph, load_external_data=False)
    stored = {one.name for one in model.graph.initializer}
    return {
        node.input[0].removesuffix(TRANSPOSED)
        for node in model.graph.node
        if node.op_type == "Cast" and node.input[0] in stored and node.output[0] == node.input[0] + WIDE
    }


def keep_in_range(model: nn.Module, is_wide: Callable[[str], bool]) -> None:
    """Let layers of an FP16 module compute in FP32, by the names of their parameters.

    Norms take whatever they are given and compute in FP32; what they give is small again.
    """
    for prefix, module in model.named_modules():
        own = [f"{prefix}.{name}" for name, one in module._parameters.items() if one is not None]
        if isinstance(module, _NORMS):
            # also their parameters, of which diffusers takes the first for the type of all up blocks
            module.float()
            module.forward = _normed_to_half(module.forward)  # type: ignore[method-assign, assignment]
        elif own and not isinstance(module, nn.Embedding):
            if any(map(is_wide, own)):
                module.float()
            module.register_forward_pre_hook(_cast_input)


def _cast_input(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    x, *rest = given
    return x.to(next(module.parameters(recurse=False)).dtype), *rest


def _normed_to_half(norm: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: norm(x.float()).half()
