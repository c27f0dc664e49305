"""A checkpoint with LoRAs in its weights, each parameter merged when it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sdrt.lora import Change, adapt, add
from sdrt.lora.keys import COMPONENTS

from .checkpoint import Checkpoint
from .graphs import WORTH_HALVING
from .parameters import Weights
from .specs import Component


def with_loras(
    checkpoint: Checkpoint, loras: Sequence[tuple[Path, float]], *, half_weights: bool = False
) -> Checkpoint:
    """The checkpoint that has these LoRA files, each times its weight, added to its parameters.

    half_weights: round what was merged to float16, where it is large enough to be stored so. It stays in
    float32 otherwise, also for a checkpoint in FP16: an FP16 graph rounds it anyway, and an FP32 graph is
    then what the same LoRA gives at load.
    Raises InputError if a file does not fit the checkpoint.
    """
    parameters = {
        component: {name: tuple(p.shape) for name, p in checkpoint.build(component).named_parameters()}
        for component in COMPONENTS
        if component in checkpoint.parameters
    }
    adaptation = adapt(loras, parameters)
    applied = [(lora.name, lora.sha256, lora.weight) for lora in adaptation.loras]
    fingerprint = hashlib.sha256(f"{checkpoint.fingerprint} {applied} {half_weights}".encode())

    def weights(component: Component) -> Weights:
        changes = adaptation.changes.get(component, {})
        return MergedWeights(checkpoint.weights(component), changes, half=half_weights)

    return replace(
        checkpoint,
        source=" + ".join([checkpoint.source, *(f"{name}:{weight:g}" for name, _, weight in applied)]),
        fingerprint=fingerprint.hexdigest(),
        file_sha256=None,
        weights=weights,
    )


class MergedWeights:
    """Parameters around others: those with changes are float32, or with `half` float16 if they are large."""

    def __init__(self, weights: Weights, changes: Mapping[str, Sequence[Change]], *, half: bool) -> None:
        self._weights = weights
        self._changes = changes
        self._half = half

    def __getitem__(self, name: str) -> Tensor:
        weight = self._weights[name]
        if name not in self._changes:
            return weight
        merged = weight.to(torch.float32, copy=True)
        add(merged.numpy(), self._changes[name])
        return merged.half() if self._half and merged.numel() >= WORTH_HALVING else merged

    def __contains__(self, name: object) -> bool:
        return name in self._weights

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a parameter; a LoRA leaves it."""
        return self._weights.shape(name)
