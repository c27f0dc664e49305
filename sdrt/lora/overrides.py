"""A bundle's graphs: their parameters, and the initializers that LoRAs change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sdrt.backends.protocol import Array
from sdrt.bundle import Bundle
from sdrt.errors import InputError
from sdrt.lora.changes import Adaptation, Change, add
from sdrt.lora.keys import COMPONENTS
from sdrt.lora.matching import adapt
from sdrt.onnx_initializers import TRANSPOSED, Initializer, read_initializers


def read_parameters(graph: Path) -> dict[str, tuple[int, ...]]:
    """The parameters of a graph by their names in the checkpoint, with PyTorch's shapes.

    Raises BundleError if the file is damaged.
    """
    return {name.removesuffix(TRANSPOSED): _shape(one) for name, one in read_initializers(graph).items()}


def _shape(initializer: Initializer) -> tuple[int, ...]:
    """PyTorch's shape of a parameter."""
    match initializer.shape:
        case channels, 1, 1:  # of a group norm, which scales [B, C, h, w]
            return (channels,)
        case shape:
            return shape[::-1] if initializer.name.endswith(TRANSPOSED) else shape


def adapt_bundle(bundle: Bundle, loras: Iterable[tuple[Path, float]]) -> Adaptation:
    """Match LoRA files and their weights with the graphs of a bundle.

    Raises InputError as `adapt` does, BundleError if a graph is damaged.
    """
    graphs = bundle.manifest.graphs
    parameters = {
        component: read_parameters(bundle.path / graphs[component].path)
        for component in COMPONENTS
        if component in graphs
    }
    return adapt(loras, parameters)


def merged_initializers(graph: Path, changes: Mapping[str, Sequence[Change]]) -> dict[str, Array]:
    """The initializers of a graph that `changes` (by parameter) concern, with the changes added.

    Each is in its own dtype: a sum is rounded to float16 where the graph stores the weight so.
    Raises InputError if a change, or a sum, is not finite in that dtype.
    """
    stored = read_initializers(graph)
    return {
        name: _merged(stored[name], changes_of_one)
        for parameter, changes_of_one in changes.items()
        for name in (parameter, parameter + TRANSPOSED)
        if name in stored
    }


def _merged(initializer: Initializer, changes: Sequence[Change]) -> Array:
    weight = initializer.read().astype(np.float32, copy=False)
    # a view in either case
    transposed = initializer.name.endswith(TRANSPOSED)
    add(weight.T if transposed else weight.reshape(_shape(initializer)), changes)
    with np.errstate(over="ignore"):  # looked at below
        rounded = weight.astype(initializer.dtype, copy=False)
    if not np.isfinite(rounded).all():
        raise InputError(
            f"{changes[-1].file.path} makes {initializer.name} too large for {initializer.dtype}; "
            "lower its weight"
        )
    return rounded
