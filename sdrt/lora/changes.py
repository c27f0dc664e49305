"""What LoRA files make of a model's parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdrt.errors import InputError
from sdrt.lora.kinds import Kind
from sdrt.lora.magnitudes import with_magnitudes
from sdrt.lora.targets import Target
from sdrt.safetensors_file import SafetensorsFile


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one LoRA makes of one parameter: it adds scale x change, and DoRA sets the norms of the sum.

    module: as the file calls it. keys: of the factors in the file, by part. magnitudes: the key of DoRA's
    norms, and the axis that they run along.
    """

    file: SafetensorsFile
    module: str
    kind: Kind
    keys: Mapping[str, str]
    scale: float
    target: Target
    magnitudes: tuple[str, int] | None = None

    def apply(self, weight: NDArray[np.float32]) -> None:
        """Change the parameter, of PyTorch's shape, in place.

        Raises InputError if what is added is not finite.
        """
        arrays = {part: self.file[key] for part, key in self.keys.items()}
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # looked at below
            try:
                change = self.kind.change(arrays, weight)
            except np.linalg.LinAlgError:  # of NaN
                change = np.full(weight.shape, np.nan, np.float32)
            change *= np.float32(self.scale)
            if self.magnitudes is not None:
                key, axis = self.magnitudes
                changed = with_magnitudes(weight + change.reshape(self.target.shape), self.file[key], axis)
                change = changed - weight
        if not np.isfinite(change).all():
            raise InputError(f"{self.module} in {self.file.path} has NaN or Inf; the file is damaged")
        weight += change.reshape(self.target.shape)


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

    changes: by component and parameter; those of one parameter are made one after the other.
    """

    loras: tuple[AppliedLora, ...]
    changes: Mapping[str, Mapping[str, Sequence[Change]]]


NO_LORAS = Adaptation(loras=(), changes={})


def add(weight: NDArray[np.float32], changes: Iterable[Change]) -> None:
    """Make changes to a parameter, of PyTorch's shape, in place. Raises InputError if one is not finite."""
    for change in changes:
        change.apply(weight)
