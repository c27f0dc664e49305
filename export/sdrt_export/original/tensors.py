"""The tensors of an original file, one read at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from sdrt.errors import ExportError, InputError

from ..parameters import TensorFile
from ..weights import PICKLES, check_safetensors, refuse_pointer
from .places import Place


class Tensors(Protocol):
    """Tensors by key."""

    def __iter__(self) -> Iterator[str]: ...

    def __getitem__(self, key: str) -> Tensor: ...

    def __contains__(self, key: object) -> bool: ...

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        ...


def open_tensors(path: Path, *, allow_pickle: bool) -> Tensors:
    """Open a safetensors file, or with `allow_pickle` one that torch has pickled.

    Raises InputError for a pickle that was not allowed, ExportError for a file that is damaged.
    """
    if path.suffix not in PICKLES:
        check_safetensors(path)
        return TensorFile(path)
    refuse_pointer(path)
    if not allow_pickle:
        raise InputError(
            f"{path} is a pickle, which can run any code when loaded, so it is refused; take the "
            ".safetensors of the model, or say --allow-pickle, which reads tensors and refuses all else"
        )
    return PickledTensors(path)


class PickledTensors:
    """The tensors of a file that torch has pickled. Nothing but tensors and plain containers is unpickled."""

    def __init__(self, path: Path) -> None:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
        except Exception as error:  # pickle's, torch's and zipfile's
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise ExportError(
                f"cannot read {path} as tensors alone: {line[:200]}; take the .safetensors of the model"
            ) from None
        while isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
            content = content["state_dict"]
        if not isinstance(content, Mapping):
            raise ExportError(f"{path} holds no tensors by name; take the .safetensors of the model")
        self._tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __contains__(self, key: object) -> bool:
        return key in self._tensors

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[key]

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return tuple(self._tensors[key].shape)


class PlacedWeights:
    """The parameters of a module, each read from its place."""

    def __init__(self, tensors: Tensors, places: Mapping[str, Place], model: nn.Module) -> None:
        self._tensors = tensors
        self._places = {name: place for name, place in places.items() if place.key in tensors}
        self._shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> Tensor:
        place = self._places[name]
        tensor = self._tensors[place.key]
        if place.third is not None:
            tensor = tensor.chunk(3)[place.third]
        if place.transposed:
            tensor = tensor.T
        return tensor.reshape(self.shape(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a parameter. A linear layer may have been a convolution of one pixel, and back."""
        place = self._places[name]
        shape = self._tensors.shape(place.key)
        if place.third is not None:
            shape = (shape[0] // 3, *shape[1:])
        if place.transposed:
            shape = shape[::-1]
        wanted = self._shapes[name]
        return wanted if _without_ones(shape) == _without_ones(wanted) else shape


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A matrix for the kernel of a convolution of one pixel."""
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
