"""Weights that are not quite those of the checkpoint."""

from __future__ import annotations

import torch

from sdrt_export.parameters import Weights


class ChangedWeights:
    """Weights of which one is larger by a number."""

    def __init__(self, weights: Weights, name: str, by: float) -> None:
        self._weights, self._name, self._by = weights, name, by
        self.shape = weights.shape

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._weights[name] + (self._by if name == self._name else 0)

    def __contains__(self, name: object) -> bool:
        return name in self._weights
