"""The parameters of a component, each read when it is asked for.

A checkpoint in memory, its copy in another precision and the graph that holds it once more are three times
the size of Stable Diffusion XL's U-Net. Here a component is built empty, and one parameter at a time is read,
converted and written. The FP32 module that graphs are measured against runs the same way.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sdrt.errors import ExportError

# https://github.com/huggingface/safetensors#format
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
# Read as FP16, which holds each of their numbers: few operators take them.
EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)


class Weights(Protocol):
    """A component's parameters by their names in the module. Reading one twice gives the same numbers."""

    def __getitem__(self, name: str) -> Tensor:
        """Read a parameter, in the source's dtype."""
        ...

    def __contains__(self, name: object) -> bool:
        """Whether the source has this parameter."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape that `self[name]` has, without reading it."""
        ...


class HalfWeights:
    """Parameters of `weights`, rounded to FP16."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> Tensor:
        return self._weights[name].half()

    def __contains__(self, name: object) -> bool:
        return name in self._weights

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a parameter."""
        return self._weights.shape(name)


class Tensors(Protocol):
    """Tensors of a file by their keys, each read when it is asked for."""

    path: Path

    def __iter__(self) -> Iterator[str]:
        """Go through the keys."""
        ...

    def __getitem__(self, key: str) -> Tensor:
        """Read a tensor."""
        ...

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        ...

    def dtype(self, key: str) -> torch.dtype:
        """Type of a tensor, without reading it. Raises ExportError if sdrt cannot export it."""
        ...


class TensorFile:
    """One safetensors file, whose header `count_parameters` has found sound.

    Tensors are read rather than mapped: pages of a mapped file would count as memory of the process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        self._start = 8 + length
        self._entries: Mapping[str, dict[str, Any]] = header

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header."""
        return tuple(self._entries[key]["shape"])

    def dtype(self, key: str) -> torch.dtype:
        """Type of a tensor, FP16 for those of 8 bits. Raises ExportError if sdrt cannot export it."""
        stored = self._stored(key)
        return torch.float16 if stored in EIGHT_BITS else stored

    def _stored(self, key: str) -> torch.dtype:
        name = str(self._entries[key]["dtype"])
        if name not in _DTYPES:
            raise ExportError(f"{key} in {self.path} is of type {name}; sdrt exports {', '.join(_DTYPES)}")
        return _DTYPES[name]

    def __getitem__(self, key: str) -> Tensor:
        stored = self._stored(key)
        first, last = self._entries[key]["data_offsets"]
        raw = np.fromfile(self.path, np.uint8, last - first, offset=self._start + first)
        return torch.from_numpy(raw).view(stored).to(self.dtype(key)).reshape(self.shape(key))


class FileWeights:
    """Parameters that lie in files under keys of their own.

    keys: name of a parameter -> its key in the files; those that the files do not have are left out.
    """

    def __init__(self, files: Mapping[str, Tensors], keys: Mapping[str, str]) -> None:
        self._files = files
        self._keys = keys

    def __getitem__(self, name: str) -> Tensor:
        key = self._keys[name]
        return self._files[key][key]

    def __contains__(self, name: object) -> bool:
        return name in self._keys

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a parameter, from a header."""
        key = self._keys[name]
        return self._files[key].shape(key)


def build_empty(make: Callable[[], nn.Module]) -> nn.Module:
    """Build a module for inference whose parameters are on the meta device; its buffers are real."""
    with torch.device("meta"):
        model = make()
    for module in model.modules():
        for name, buffer in module._buffers.items():
            assert name == "position_ids" and buffer is not None, name
            module._buffers[name] = torch.arange(buffer.shape[-1]).expand(buffer.shape)
    return model.eval().requires_grad_(False)


def check_weights(model: nn.Module, weights: Weights, called: str) -> None:
    """Raise ExportError unless every parameter of `model` is there, in its shape. called: in messages."""
    wrong = [
        name
        for name, parameter in model.named_parameters()
        if name not in weights or weights.shape(name) != tuple(parameter.shape)
    ]
    if wrong:
        raise ExportError(
            f"the weights in {called} do not fit its config: {wrong[0]} "
            f"({len(wrong)} in all are missing or of another shape)"
        )


def reserve(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Give an empty module parameters on the CPU, in memory that is never touched and so never taken.

    It can be traced, which looks at shapes alone.
    """
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                untouched = torch.empty(parameter.shape, dtype=dtype)
                module._parameters[name] = nn.Parameter(untouched, requires_grad=False)
    return model


@contextlib.contextmanager
def streaming(model: nn.Module, weights: Weights) -> Iterator[None]:
    """Let an empty module run in FP32: each layer holds its parameters only while it runs."""
    hooks = []
    for prefix, module in model.named_modules():
        own = list(module._parameters)
        if own:
            names = {name: f"{prefix}.{name}" if prefix else name for name in own}
            hooks += [
                module.register_forward_pre_hook(_filling(weights, names)),
                module.register_forward_hook(_emptying(dict(module._parameters)), always_call=True),
            ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _filling(weights: Weights, names: Mapping[str, str]) -> Callable[[nn.Module, object], None]:
    def fill(module: nn.Module, _: object) -> None:
        for own, name in names.items():
            if module._parameters[own] is not None:
                module._parameters[own] = nn.Parameter(weights[name].float(), requires_grad=False)

    return fill


def _emptying(empty: dict[str, nn.Parameter | None]) -> Callable[[nn.Module, object, object], None]:
    def drain(module: nn.Module, *_: object) -> None:
        module._parameters.update(empty)

    return drain
