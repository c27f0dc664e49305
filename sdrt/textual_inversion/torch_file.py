"""Tensors in a file of `torch.save`, read without torch and without running what the pickle asks for.

The file is a zip archive (torch 1.6 and later): `<name>/data.pkl` is a pickle whose tensors name storages,
`<name>/data/<key>` are their bytes. A pickle is a program for a machine that may call anything. Here it may
call the four functions below, which build inert objects, and name the types of storages; any other name is
refused before it is looked up.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sdrt.backends import Array
from sdrt.errors import InputError

# A few names and sizes are hundreds of bytes. A tuple within a tuple takes one byte, and hashing a hundred
# thousand of them would exhaust the stack.
_MAX_PICKLE = 16_000
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
}


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: str
    key: str


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Elements offset + sum(index * stride) of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _ParameterDict:
    """A torch module, which holds the tensors in files of the first implementation; only they are kept."""

    def __init__(self) -> None:
        self.tensors: Mapping[Any, Any] = {}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.tensors = state["_parameters"]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _inert(_tensor),
            ("torch._utils", "_rebuild_parameter"): _inert(_parameter),
            ("torch.nn.modules.container", "ParameterDict"): type("ParameterDict", (_ParameterDict,), {}),
        }
        if (module, name) not in allowed:
            raise InputError(f"it asks for {module}.{name}, which no embedding needs")
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _device, _count = pid
        if kind != "storage" or dtype not in _STORAGES.values() or not isinstance(key, str):
            raise ValueError("no storage")
        return _Storage(dtype, key)


def _inert(function: Callable[..., Any]) -> Callable[..., Any]:
    """One to be used and thrown away: a pickle can set attributes of whatever it gets."""
    return lambda *arguments: function(*arguments)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, _Storage) or not all(
        type(number) is int and number >= 0 for number in numbers
    ):
        raise ValueError("no tensor")
    return _Tensor(storage, offset, tuple(shape), tuple(stride))


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def read_torch_file(path: Path) -> Any:
    """What `torch.save` was given: dictionaries, lists, strings, numbers; tensors are float32 or int arrays.

    Raises InputError naming the file if it is damaged, in the format before torch 1.6, or asks for anything
    that is no tensor.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            (pickled,) = (name for name in names if name.rpartition("/")[2] == "data.pkl")
            folder = pickled.removesuffix("data.pkl")
            if f"{folder}byteorder" in names and _read(archive, f"{folder}byteorder") != b"little":
                raise InputError("its numbers are big-endian")
            if archive.getinfo(pickled).file_size > _MAX_PICKLE:
                raise InputError(f"its pickle has more than {_MAX_PICKLE} bytes: no embedding has")
            return _with_arrays(_Unpickler(io.BytesIO(_read(archive, pickled))).load(), archive, folder)
    except InputError as error:
        raise InputError(
            f"{path} is refused: {error}; convert it to .safetensors where you trust it"
        ) from None
    except zipfile.BadZipFile:
        raise InputError(
            f"{path} is truncated, or not a file of torch 1.6 or later; download or convert it again"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception:  # a pickle can make any object fail in its own way
        raise InputError(f"{path} is damaged, or no embedding; download it again") from None


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member as it lies in the archive: torch stores, so what is compressed could be of any size."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise InputError("it is compressed, as torch does not write it")
    return archive.read(name)


def _with_arrays(value: Any, archive: zipfile.ZipFile, folder: str) -> Any:
    if isinstance(value, _Tensor):
        return _array(value, _read(archive, f"{folder}data/{value.storage.key}"))
    if isinstance(value, _ParameterDict):
        value = value.tensors
    if isinstance(value, Mapping):
        return {key: _with_arrays(one, archive, folder) for key, one in value.items()}
    return value


def _array(tensor: _Tensor, content: bytes) -> Array:
    numbers = _numbers(content, tensor.storage.dtype)
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
    if prod(tensor.shape) == 0 or prod(tensor.shape) > numbers.size or last >= numbers.size:
        raise ValueError("a tensor reaches beyond its storage")
    strides = [step * numbers.itemsize for step in tensor.stride]
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.array(view)


def _numbers(content: bytes, dtype: str) -> Array:
    """Bytes as a flat array; floating types become float32."""
    if dtype == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4").astype(np.float32)
    numbers = np.frombuffer(content, np.dtype(dtype).newbyteorder("<"))
    return numbers.astype(np.float32) if numbers.dtype.kind == "f" else numbers
