"""The weights of a graph as its packages want them: turned, joined and laid out on their device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sdrt.backends.aoti_constants import Constant
from sdrt.backends.protocol import Array
from sdrt.onnx_initializers import TRANSPOSED, missing_weight, read_initializers

if TYPE_CHECKING:
    import torch


class GraphWeights:
    """Tensors of one graph's packages; those that several take alike are there once.

    overrides: initializers by name that are taken in place of the graph's. Raises BundleError if the graph
    lacks one of them, or is damaged.
    """

    def __init__(self, graph: Path, overrides: Mapping[str, Array], device: str) -> None:
        self._stored = read_initializers(graph)
        self._overrides = overrides
        self._device = device
        self._made: dict[tuple[str, Constant], torch.Tensor] = {}
        missing = next((name for name in overrides if name not in self._stored), None)
        if missing is not None:
            raise missing_weight(graph, missing)

    def tensors(self, constants: Mapping[str, Constant]) -> dict[str, torch.Tensor]:
        """What a package asks for.

        Raises KeyError if the graph lacks a weight, ValueError or RuntimeError if it is of another size.
        """
        for key in constants.items():
            if key not in self._made:
                self._made[key] = self._make(key[1])
        return {key[0]: self._made[key] for key in constants.items()}

    def _make(self, constant: Constant) -> torch.Tensor:
        import torch

        parts = [self._read(name) for name in constant.sources] or [
            torch.from_numpy(np.frombuffer(constant.values, constant.dtype).copy())
        ]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        if whole.ndim == 2 and len(whole) < constant.shape[0]:
            whole = torch.nn.functional.pad(whole, (0, 0, 0, constant.shape[0] - len(whole)))
        # [C, 1, 1] to [C]: what graphs scale [B, C, h, w] by
        whole = whole.to(getattr(torch, constant.dtype)).reshape(constant.shape)
        if whole.stride() == constant.stride and whole.device.type == self._device:
            return whole
        laid_out = torch.empty_strided(
            constant.shape, constant.stride, dtype=whole.dtype, device=self._device
        )
        return laid_out.copy_(whole)

    def _read(self, name: str) -> torch.Tensor:
        """An initializer on the device, turned there: as it lies in the file it is copied in one piece."""
        import torch

        array = self._overrides[name] if name in self._overrides else self._stored[name].read()
        tensor = torch.from_numpy(array).to(self._device)
        return tensor.T if name.endswith(TRANSPOSED) else tensor
