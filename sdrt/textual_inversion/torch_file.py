"""Tensors in a file of `torch.save`, read without torch and without running what the pickle asks for.

The file is a zip archive (torch 1.6 and later): `<name>/data.pkl` is a pickle whose tensors name storages,
`<name>/data/<key>` are their bytes.
"""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sdrt.backends import Array
from sdrt.errors import InputError
from sdrt.textual_inversion.pickle_machine import ParameterDict, Storage, Tensor, load

_MAX_PICKLE = 16_000  # bytes; a few names and sizes are hundreds
_MAX_ARRAYS = 100_000_000  # bytes; several tensors may be views of one storage


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
            value = load(_read(archive, pickled))
            return _Arrays(archive, folder).of(value)
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


class _Arrays:
    """The tensors of one archive as arrays. What several places share is read once."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self._archive = archive
        self._folder = folder
        self._storages: dict[Storage, Array] = {}
        self._made: dict[int, Any] = {}  # by id, of objects that the pickle's value keeps
        self._size = 0

    def of(self, value: Any) -> Any:
        """A value of `pickle_machine` with arrays in place of its tensors."""
        if id(value) in self._made:
            return self._made[id(value)]
        if isinstance(value, Tensor):
            self._made[id(value)] = self._array(value)
        elif isinstance(value, ParameterDict):
            return self.of(value.tensors)
        elif isinstance(value, dict):
            made = self._made[id(value)] = {}
            made.update({key: self.of(one) for key, one in value.items()})
        else:
            return value
        return self._made[id(value)]

    def _array(self, tensor: Tensor) -> Array:
        if tensor.storage not in self._storages:
            content = _read(self._archive, f"{self._folder}data/{tensor.storage.key}")
            self._storages[tensor.storage] = _numbers(content, tensor.storage.dtype)
        array = _array(tensor, self._storages[tensor.storage])
        self._size += array.nbytes
        if self._size > _MAX_ARRAYS:
            raise InputError(f"its tensors have more than {_MAX_ARRAYS} bytes: no embedding has")
        return array


def _array(tensor: Tensor, numbers: Array) -> Array:
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
