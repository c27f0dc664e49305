"""Embeddings as `torch.save` writes them, made without torch."""

from __future__ import annotations

import io
import pickle
import zipfile
from random import Random
from typing import Any, ClassVar

import mutators
import numpy as np
from fuzz_target import Target
from fuzz_weights import read_embedding_file


class _Storage:
    pass


class _Rebuilt:
    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


class _Pickler(pickle._Pickler):
    """As torch pickles tensors, without torch."""

    def persistent_id(self, value: Any) -> Any:
        return (
            ("storage", _Name(("torch", "FloatStorage")), "0", "cpu", 256)
            if isinstance(value, _Storage)
            else None
        )

    def _save_name(self, value: Any) -> None:
        self.write("c{}\n{}\n".format(*value).encode())

    def _save_rebuilt(self, value: _Rebuilt) -> None:
        self._save_name(("torch._utils", "_rebuild_tensor_v2"))
        self.save(value.arguments)
        self.write(pickle.REDUCE)

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)


class _Name(tuple):
    pass


_Pickler.dispatch[_Name] = _Pickler._save_name
_Pickler.dispatch[_Rebuilt] = _Pickler._save_rebuilt


def _archive(pickled: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (
            ("archive/data.pkl", pickled),
            ("archive/data/0", np.ones(256, "<f4").tobytes()),
            ("archive/version", b"3\n"),
            ("archive/byteorder", b"little"),
        ):
            archive.writestr(zipfile.ZipInfo(name), content)  # without the time
    return buffer.getvalue()


def _pickle_seeds() -> list[bytes]:
    tensor = _Rebuilt(_Storage(), 0, (2, 128), (128, 1), False, {})
    values = (
        {"string_to_param": {"*": tensor}, "name": "learned", "step": 500, "sd_checkpoint": None},
        {"<cat>": tensor},
        {"clip_l": tensor, "clip_g": tensor},
    )
    found = []
    for value in values:
        buffer = io.BytesIO()
        _Pickler(buffer, 2).dump(value)
        found.append(_archive(buffer.getvalue()))
    return found


_OPCODES = (
    *(b"(", b")", b"}", b"]", b"u", b"s", b"a", b"e", b"t", b"\x85", b"\x86", b"R", b"b", b"Q", b"0"),
    *(b"2", b"N", b"\x81", b"q\x01", b"h\x01", b"r\xff\xff\xff\x7f", b"j\x01\0\0\0", b"K\xff"),
    *(b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\xff" * 8, b"cos\nsystem\n", b"cbuiltins\neval\n"),
    *(b"ccollections\nOrderedDict\n", b"X\x03\0\0\0red", b"\x8b\xff\xff\xff\x7f"),
    *(b"ctorch._utils\n_rebuild_parameter\n", b"ctorch.nn.modules.container\nParameterDict\n", b"\x94"),
    *(b"\x95" + b"\xff" * 8,),
)


def _change_pickle(content: bytes, random: Random) -> bytes:
    """Opcodes of the pickle, in an archive with checksums that are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        pickled = bytearray(archive.read("archive/data.pkl"))
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(pickled))
        match random.randrange(4):
            case 0:
                pickled[at:at] = random.choice(_OPCODES) * random.choice((1, 1, 1, 200, 5_000))
            case 1:
                one = random.choice(_OPCODES)
                pickled[at : at + len(one)] = one
            case 2:
                pickled[at:] = mutators.bytes_(bytes(pickled[at:]), random, changes=1)
            case _:
                end = min(len(pickled), at + random.choice((1, 4, 20)))
                pickled[at:at] = pickled[at:end] * random.choice((1, 3, 500))
    return _archive(bytes(pickled))


TARGETS = (Target(name="embedding.pt", seeds=_pickle_seeds, mutate=_change_pickle, read=read_embedding_file),)
