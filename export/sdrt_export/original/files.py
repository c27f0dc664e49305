"""Checkpoints in one file: what keys it has, of what shapes, and one tensor at a time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdrt.errors import ExportError, InputError

from ..noise import quiet
from ..parameters import EIGHT_BITS, TensorFile, Tensors
from ..weights import PICKLES, count_parameters, refuse_pointer
from .spellings import with_plain_keys


def open_file(path: Path, *, allow_pickle: bool) -> Tensors:
    """Open a safetensors file, or a pickled one if `allow_pickle`; which it is, its name says.

    Its keys are those of the original code bases, see `with_plain_keys`.
    Raises InputError for a pickle that is not allowed; ExportError if the file is absent, truncated, a
    git-lfs pointer, a pickle by another name, or damaged.
    """
    if path.suffix not in PICKLES:
        count_parameters(path)
        return with_plain_keys(TensorFile(path))
    refuse_pointer(path)
    if not allow_pickle:
        raise InputError(
            f"{path} is a pickle, which can run any code when loaded; use a .safetensors file, "
            "or --allow-pickle, which loads tensors and runs nothing"
        )
    return with_plain_keys(PickledFile(path))


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PickledFile:
    """Tensors of a `.ckpt`, mapped from the file; one of PyTorch before 1.6 is read whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors: dict[str, Tensor] = {
            key: value
            for key, value in _state_dict(_load(path)).items()
            if isinstance(key, str) and _is_plain(value)
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[key].detach().to(self.dtype(key))

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return tuple(self._tensors[key].shape)

    def dtype(self, key: str) -> torch.dtype:
        """Type of a tensor. Raises ExportError if sdrt cannot export it."""
        dtype = self._tensors[key].dtype
        if dtype in EIGHT_BITS:
            return torch.float16
        if dtype not in _DTYPES:
            raise ExportError(
                f"{key} in {self.path} is of type {dtype}; sdrt exports FP8, FP16, BF16 and FP32"
            )
        return dtype


_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class _Nothing:
    """Stands for a training record in a pickle, which is not wanted."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# What trainers pickled beside the weights, as in the first files of Stable Diffusion 1. None of it is looked
# up or run: PyTorch's unpickler is given something empty by these names, and refuses all others.
_RECORDS = (
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
)
# In messages of PyTorch's unpickler.
_FORBIDDEN = re.compile(r"GLOBAL (\S+)|unrecognized (function \S+)")


def _load(path: Path) -> object:
    records: list[Any] = [(_stand_in(name), name) for name in _RECORDS]
    with path.open("rb") as file:
        mappable = file.read(2) == b"PK"
    try:
        with torch.serialization.safe_globals(records), quiet():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mappable or None)
    except Exception as error:  # pickle's, zip's, OSError, RuntimeError, EOFError
        if found := _FORBIDDEN.search(str(error)):
            raise ExportError(
                f"{path} holds {found[1] or found[2]}, which could run code, and is refused; "
                "take the .safetensors file of this model"
            ) from None
        raise ExportError(f"{path} is truncated or no file of PyTorch; download it again") from None


def _stand_in(name: str) -> type:
    return type(name.rpartition(".")[2], (_Nothing,), {})


def _state_dict(content: object) -> Mapping[Any, Any]:
    """The innermost `state_dict`, where a trainer wrapped it."""
    while isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    return content if isinstance(content, Mapping) else {}


def _is_plain(value: object) -> bool:
    """Whether it is a tensor whose numbers are in the file."""
    return isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
