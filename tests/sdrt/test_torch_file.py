"""Tensors of `torch.save` without torch, and what else a pickle may try."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import time
import tracemalloc
import zipfile
from typing import ClassVar

import numpy as np
import pytest

from sdrt.errors import InputError
from sdrt.textual_inversion.torch_file import read_torch_file

TENSOR = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7


def archive(pickled: bytes, path, *, compression=zipfile.ZIP_STORED, data=b"\0" * 64):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/data/0", data)
        file.writestr("archive/version", "3\n")
    return path


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Name(tuple):
    """A global, by module and name, whether it can be imported here or not."""

    def __new__(cls, module, name):
        return super().__new__(cls, (module.encode(), name.encode()))


class Storage:
    def __init__(self, key="0", kind="storage", dtype=("torch", "FloatStorage")):
        self.pid = (kind, Name(*dtype), key, "cpu", 4)


class Rebuilt:
    """Pickles as a call of `function`, and then a change of what it gave."""

    def __init__(self, *arguments, function=("torch._utils", "_rebuild_tensor_v2"), state=None):
        self.function, self.arguments, self.state = Name(*function), arguments, state


class Pickler(pickle._Pickler):
    def persistent_id(self, value):
        return value.pid if isinstance(value, Storage) else None

    def save_name(self, value):
        self.write(b"c%s\n%s\n" % tuple(value))

    def save_rebuilt(self, value):
        self.save_name(value.function)
        self.save(value.arguments)
        self.write(pickle.REDUCE)
        if value.state is not None:
            self.save(value.state)
            self.write(pickle.BUILD)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, Name: save_name, Rebuilt: save_rebuilt}


def pickled(value) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(value)
    return buffer.getvalue()


def tensor(storage=None, offset=0, size=(4,), stride=(1,), **options):
    return Rebuilt(storage or Storage(), offset, size, stride, False, {}, **options)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "int32"])
def test_types(dtype, tmp_path):
    torch = pytest.importorskip("torch")
    saved = torch.from_numpy(TENSOR * 7).to(getattr(torch, dtype))
    torch.save({"x": saved}, tmp_path / "x.pt")
    read = read_torch_file(tmp_path / "x.pt")["x"]
    assert read.dtype == (np.float32 if saved.is_floating_point() else dtype)
    np.testing.assert_array_equal(read, saved.to(torch.float64).numpy())


def test_rounding_of_bfloat16(tmp_path):
    torch = pytest.importorskip("torch")
    saved = torch.from_numpy(TENSOR).bfloat16()
    torch.save(saved, tmp_path / "x.pt")
    np.testing.assert_array_equal(read_torch_file(tmp_path / "x.pt"), saved.float().numpy())


def test_views_and_parameters(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.from_numpy(TENSOR)
    saved = {
        "transposed": base.permute(2, 0, 1),
        "part": base[1, 1:, 2],
        "repeated": base[0, 0].expand(5, 4),
        "parameter": torch.nn.Parameter(base),
        "scalar": torch.tensor(2.5),
        "same": base,
        "nested": {"list": [1, None, "text"], "ordered": collections.OrderedDict(a=base[0])},
    }
    torch.save(saved, tmp_path / "x.pt")
    read = read_torch_file(tmp_path / "x.pt")
    for name in ("transposed", "part", "repeated", "parameter", "scalar", "same"):
        np.testing.assert_array_equal(read[name], saved[name].detach().numpy())
    assert read["nested"]["list"] == [1, None, "text"]
    np.testing.assert_array_equal(read["nested"]["ordered"]["a"], TENSOR[0])


def test_the_first_implementation_saved_a_module(tmp_path):
    """Its state as torch 1.11 pickled it: parameters among the hooks."""
    hooks = {"_buffers": {}, "training": True}
    state = {"_parameters": {"*": tensor()}, **hooks}
    module = Rebuilt(function=("torch.nn.modules.container", "ParameterDict"), state=state)
    content = np.array([1, 2, 3, 4], np.float32)
    path = archive(pickled({"string_to_param": module}), tmp_path / "x.pt", data=content.tobytes())
    np.testing.assert_array_equal(read_torch_file(path)["string_to_param"]["*"], content)


@pytest.mark.parametrize(
    "value",
    [
        Calls(os.system, "touch ran"),
        Calls(eval, "open('ran', 'w')"),
        Calls(getattr, collections.OrderedDict, "fromkeys"),
        Rebuilt("touch ran", function=("posix", "system")),
        Rebuilt("touch ran", function=("collections", "OrderedDict.__init__")),
        Rebuilt(b"", function=("torch.storage", "_load_from_bytes")),
        Rebuilt("x", function=("torch.hub", "load")),
        Rebuilt("sdrt", function=("importlib", "import_module")),
        tensor(function=("numpy.core.multiarray", "_reconstruct")),
    ],
    ids=lambda value: "".join(map(bytes.decode, getattr(value, "function", ()))) or value.call[0].__name__,
)
def test_anything_else_is_refused_and_not_run(value, tmp_path):
    content = pickle.dumps({"x": value}, 2) if isinstance(value, Calls) else pickled({"x": value})
    with pytest.raises(InputError, match=r"x\.pt is refused: it asks for \S+, which no embedding needs"):
        read_torch_file(archive(content, tmp_path / "x.pt"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "value",
    [
        tensor(offset=1),
        tensor(size=(5,)),
        tensor(size=(2, 2), stride=(1, 3)),
        tensor(size=(2**40,), stride=(0,)),
        tensor(size=(2,), stride=(-1,), offset=3),
        tensor(offset=-1),
        tensor(size=("4",)),
        tensor(size=(4, 1)),
        tensor(Storage(key="1")),
        tensor(Storage(key="../../etc/passwd")),
        tensor(Storage(kind="module")),
        tensor(Storage(dtype=("collections", "OrderedDict"))),
        tensor(storage=[1, 2, 3, 4]),
        tensor(state={"shape": (2**40,)}),
        tensor(state=(None, {"shape": (2**40,)})),
        Rebuilt(),
        Rebuilt(function=("torch.nn.modules.container", "ParameterDict"), state={"training": True}),
        Rebuilt(1, 2, 3, function=("collections", "OrderedDict")),
    ],
    ids=range(18),
)
def test_what_is_no_tensor_is_damaged(value, tmp_path):
    path = archive(pickled({"x": value}), tmp_path / "x.pt", data=np.ones(4, np.float32).tobytes())
    with pytest.raises(InputError, match=r"x\.pt is damaged, or no embedding; download it again"):
        read_torch_file(path)


def test_a_pickle_changes_nothing_that_stays(tmp_path):
    """It may set attributes of what it is given; the next file must not see them."""
    function = Name("torch._utils", "_rebuild_tensor_v2")
    changes = (None, {"__defaults__": (1, 2), "__doc__": "changed"})
    content = (
        b"\x80\x02"
        + pickled(function)[2:-1]
        + pickled(changes)[2:-1]
        + pickle.BUILD
        + pickled(0)[2:-1]
        + b"."
    )
    archive(content, tmp_path / "changing.pt")
    with contextlib.suppress(InputError):
        read_torch_file(tmp_path / "changing.pt")
    whole = archive(pickled(tensor()), tmp_path / "x.pt", data=np.ones(4, np.float32).tobytes())
    np.testing.assert_array_equal(read_torch_file(whole), np.ones(4, np.float32))


@pytest.mark.parametrize("what", ["empty", "half", "text", "no pickle", "old format", "folder"])
def test_what_is_no_archive(what, tmp_path):
    path = archive(pickled(tensor()), tmp_path / "x.pt")
    if what == "empty":
        path.write_bytes(b"")
    elif what == "half":
        path.write_bytes(path.read_bytes()[:-100])
    elif what == "text":
        path.write_text("hello")
    elif what == "no pickle":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/version", "3\n")
    elif what == "old format":  # before torch 1.6: pickles one after the other, a magic number first
        path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(InputError, match=r"x\.pt.*"):
        read_torch_file(path)


def test_bombs_are_not_lit(tmp_path):
    compressed = archive(
        pickled(tensor()), tmp_path / "a.pt", compression=zipfile.ZIP_DEFLATED, data=b"\0" * 10**6
    )
    with pytest.raises(InputError, match="compressed"):
        read_torch_file(compressed)
    # a key to hash that is nested a million times would exhaust the stack
    nested = b"\x80\x02}" + b")" + b"\x85" * 10**6 + b"K\x01s."
    with pytest.raises(InputError, match="more than 16000 bytes"):
        read_torch_file(archive(nested, tmp_path / "b.pt"))
    deep = b"\x80\x02}" + b")" + b"\x85" * 15_900 + b"K\x01s."
    with pytest.raises(InputError, match="damaged"):
        read_torch_file(archive(deep, tmp_path / "c.pt"))


def shared(levels, put=b"q\x00", get=b"h\x00", join=b"\x86"):
    """Each level holds the one before twice: 2^levels of them if they are counted out."""
    return b")" + (put + get + join) * levels


SMALL = {
    "index into the memo": b"\x80\x02Nr\xff\xff\xff\x4a.",
    "largest index": b"\x80\x02Nr\xff\xff\xff\xff.",
    "tuples that share their parts, as a key": b"\x80\x02}" + shared(2000) + b"K\x01s.",
    "tuples that share their parts": b"\x80\x02" + shared(2000) + b".",
    "dictionaries that share their parts": b"\x80\x02}"
    + b"q\x00}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00u" * 400
    + b".",
    "a dictionary in itself": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a length that is not there": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a text that is not there": b"\x80\x05\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a frame that is not there": b"\x80\x05\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "digits": b"\x80\x02I" + b"9" * 15_000 + b"\n.",
    "thousands of marks": b"\x80\x02" + b"(" * 15_000 + b".",
    "a dictionary as a key": b"\x80\x02}}K\x01s.",
    "sets": b"\x80\x04\x8f(" + shared(100) + b"\x90.",
}


@pytest.mark.parametrize("name", SMALL)
def test_small_pickles_take_little(name, tmp_path):
    """828 bytes asked for 9.5 GB, a hundred for years."""
    path = archive(SMALL[name], tmp_path / "x.pt")
    tracemalloc.start()
    started = time.process_time()
    try:
        with contextlib.suppress(InputError):
            read_torch_file(path)
        assert time.process_time() - started < 2
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_views_of_one_storage_are_counted(tmp_path):
    content = np.zeros(10**6, np.float32).tobytes()
    one = tensor(size=(10**6,))
    read = read_torch_file(archive(pickled([one]), tmp_path / "x.pt", data=content))
    assert len(read) == 1
    many = {str(index): tensor(size=(10**6,)) for index in range(40)}
    with pytest.raises(InputError, match="more than 100000000 bytes"):
        read_torch_file(archive(pickled(many), tmp_path / "y.pt", data=content))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_of_torch(protocol, tmp_path):
    torch = pytest.importorskip("torch")
    saved = {"string_to_param": torch.nn.ParameterDict({"*": torch.from_numpy(TENSOR[0])}).state_dict()}
    torch.save(saved, tmp_path / "x.pt", pickle_protocol=protocol)
    np.testing.assert_array_equal(read_torch_file(tmp_path / "x.pt")["string_to_param"]["*"], TENSOR[0])
