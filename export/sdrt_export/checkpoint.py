"""A checkpoint to export: its settings at hand, its components loaded one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn
from transformers import CLIPTokenizer

from .configs import Configs
from .parameters import Weights
from .specs import Component


@dataclass(frozen=True, kw_only=True)
class Model:
    """What `sdrt export` reads, but for the networks.

    source: as the user gave it. revision: the commit, if it is from the hub.
    file_sha256: of the one file that it was read of, by which other programs know it; None if there are more,
    or if its weights were changed since.
    fingerprint: changes when any file or setting behind it does.
    tokenizers: by folder name, one for each text encoder.
    """

    source: str
    fingerprint: str
    configs: Configs
    tokenizers: Mapping[str, CLIPTokenizer]
    revision: str | None = None
    file_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Model):
    """A model with PyTorch modules, wherever its weights come from.

    parameters: how many numbers each component has.
    build: a component without weights, on the meta device. weights: its parameters, in the source's dtype.
    """

    parameters: Mapping[Component, int]
    build: Callable[[Component], nn.Module]
    weights: Callable[[Component], Weights]
