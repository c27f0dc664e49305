"""What LoRA files add to a model's parameters, and the sum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdrt.errors import InputError
from sdrt.lora.factors import Kind
from sdrt.lora.targets import Target
from sdrt.safetensors_file import SafetensorsFile


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one LoRA adds to one parameter: scale x the product of its factors.

    module: as the file calls it. keys: of the factors in the file, by part.
    """

    file: SafetensorsFile
    module: str
    kind: Kind
    keys: Mapping[str, str]
    scale: float
    target: Target

    def delta(self) -> NDArray[np.float32]:
        """The addend, in the parameter's shape. Raises InputError if it is not finite."""
        arrays = {part: self.file[key] for part, key in self.keys.items()}
        with np.errstate(over="ignore", invalid="ignore"):  # looked at below
            delta = self.kind.multiply(arrays)
            delta *= np.float32(self.scale)
        if not np.isfinite(delta).all():
            raise InputError(f"{self.module} in {self.file.path} has NaN or Inf; the file is damaged")
        return delta.reshape(self.target.shape)


@dataclass(frozen=True, kw_only=True)
class AppliedLora:
    """A LoRA that is part of a model: its file and weight.

    sha256: of the whole file. tensors_sha256: of what follows its header, by which AUTOMATIC1111 and model
    sites know it, whatever its metadata are.
    """

    file: Path
    weight: float
    sha256: str
    tensors_sha256: str

    @property
    def name(self) -> str:
        """What people call it: the file's name without its ending."""
        return self.file.stem


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """Several LoRAs, matched with the parameters of one model.

    changes: by component and parameter; those of one parameter add up.
    """

    loras: tuple[AppliedLora, ...]
    changes: Mapping[str, Mapping[str, Sequence[Change]]]


NO_LORAS = Adaptation(loras=(), changes={})


def add(weight: NDArray[np.float32], changes: Iterable[Change]) -> None:
    """Add changes to a parameter, in place. Raises InputError if one is not finite."""
    for change in changes:
        weight += change.delta()
