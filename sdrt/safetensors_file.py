"""A .safetensors file, read one tensor at a time.

Layout: https://github.com/huggingface/safetensors#format. The package of that name needs torch, or another
framework, for BF16 and FP8, which numpy does not know; here all become FP32. BF16 is the upper half of it,
E5M2 the upper half of FP16, and the numbers of E4M3 (without infinity: Micikevicius et al. 2022,
https://arxiv.org/abs/2209.05433) stand in a table.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdrt.errors import InputError
from sdrt.strict_json import read_json

_FLOATING = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F8_E4M3": "<u1",
    "F8_E5M2": "<u1",
}
_WHOLE = {
    **{f"I{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
    "BOOL": "<u1",
}
_NUMPY = {**_FLOATING, **_WHOLE}
_MAX_HEADER = 100_000_000
_MAX_NAME = 1000
_MAX_AXES, _MAX_AXIS = 8, 2**31 - 1  # numpy multiplies them even where one is zero
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_LFS_START = b"version https://git-lfs"


@dataclass(frozen=True, kw_only=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    offset: int


class SafetensorsFile(Mapping[str, NDArray[np.float32]]):
    """The tensors of a file by name, each read as float32 when it is asked for.

    metadata: the texts of the header. data_start: where the header ends.
    """

    def __init__(self, path: Path, *, whole_numbers: bool = False) -> None:
        """Read and check the header.

        whole_numbers: take tensors of integers and truth values as well as floating ones.
        Raises InputError naming the file if it is absent, a pickle, truncated, or otherwise no such file.
        """
        self.path = path
        header, self.data_start, size = _read_header(path)
        known = _NUMPY if whole_numbers else _FLOATING
        self.metadata, self._entries = _check_header(path, header, self.data_start, size, known)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        entry = self._entries[name]
        raw = np.fromfile(self.path, _NUMPY[entry.dtype], prod(entry.shape), offset=entry.offset)
        if entry.dtype == "BF16":
            raw = (raw.astype("<u4") << 16).view("<f4")
        elif entry.dtype == "F8_E5M2":
            raw = (raw.astype("<u2") << 8).view("<f2")
        elif entry.dtype == "F8_E4M3":
            raw = _E4M3[raw]
        return raw.reshape(entry.shape).astype(np.float32, copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape that `self[name]` has, without reading it."""
        return self._entries[name].shape

    def is_floating(self, name: str) -> bool:
        """Whether a tensor is of floating-point numbers."""
        return self._entries[name].dtype in _FLOATING


def _e4m3() -> NDArray[np.float32]:
    """The 256 numbers of a sign, four bits of exponent with bias 7, and three of mantissa."""
    bits = np.arange(256)
    exponent, mantissa = bits >> 3 & 15, bits & 7
    magnitude = np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    magnitude[bits & 127 == 127] = np.nan
    return np.copysign(magnitude, np.where(bits & 128, -1.0, 1.0)).astype(np.float32)


_E4M3 = _e4m3()


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The header, where it ends, and the size of the file."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe would be waited for
            raise InputError(f"{path} is no plain file; give a .safetensors file")
        with path.open("rb") as file:
            start = file.read(len(_LFS_START))
            size = file.seek(0, 2)
            length = int.from_bytes(start[:8], "little")
            file.seek(8)
            sound = 8 + length <= size and 2 <= length <= _MAX_HEADER
            text = file.read(length) if sound else b""
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if path.suffix.lower() in _PICKLES or start.startswith(_PICKLE_STARTS):
        raise InputError(
            f"{path} is a pickle, which can run any code when loaded, so it is refused; "
            "take the .safetensors file"
        )
    if start == _LFS_START:
        raise InputError(f"{path} is a git-lfs pointer, not the file itself; fetch it with: git lfs pull")
    try:
        header = read_json(text)
    except (json.JSONDecodeError, UnicodeDecodeError):
        header = None
    except ValueError as error:
        raise InputError(f"{path} has no valid header: {error}; download it again") from None
    if not isinstance(header, dict):
        raise InputError(f"{path} is truncated or no .safetensors file; download it again")
    return header, 8 + length, size


def _check_header(
    path: Path, header: dict[str, Any], data_start: int, size: int, known: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, _Entry]]:
    metadata = header.pop("__metadata__", None) or {}
    entries, spans = {}, []
    for name, fields in header.items():
        if len(name) > _MAX_NAME or not name.isprintable():  # it stands in messages
            raise InputError(f"{path} has no valid header: {name[:40]!r} names a tensor; download it again")
        match fields:
            case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(first), int(last)]}:
                pass
            case _:
                raise InputError(f"{path} has no valid header; download it again")
        if dtype not in known:
            raise InputError(f"{name} in {path} is of type {dtype}; sdrt reads {', '.join(known)}")
        whole = len(shape) <= _MAX_AXES and all(
            type(axis) is int and 0 <= axis <= _MAX_AXIS for axis in shape
        )
        if not whole or first < 0 or last - first != prod(shape) * np.dtype(known[dtype]).itemsize:
            raise InputError(f"{path} has no valid header: {name} is amiss; download it again")
        if data_start + last > size:
            raise InputError(f"{path} is truncated: {name} is not all there; download it again")
        spans.append((first, last))
        entries[name] = _Entry(dtype=dtype, shape=tuple(shape), offset=data_start + first)
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise InputError(f"{path} has no valid header: its metadata are no texts; download it again")
    _check_coverage(path, spans, size - data_start)
    return metadata, entries


def _check_coverage(path: Path, spans: list[tuple[int, int]], length: int) -> None:
    """Raise InputError unless the tensors lie one after the other from the first byte to the last.

    The format has it so: bytes that belong to no tensor, or to two, are read differently by other programs.
    """
    at = 0
    for first, last in sorted(spans):
        if first != at:
            raise InputError(
                f"{path} has no valid header: its tensors overlap or leave gaps; download it again"
            )
        at = last
    if at != length:
        raise InputError(f"{path} has {length - at} bytes that belong to no tensor; download it again")
