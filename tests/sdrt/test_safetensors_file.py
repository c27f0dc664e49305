"""A .safetensors file is read as its own library reads it, and refused where it is not sound."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sdrt.errors import InputError
from sdrt.safetensors_file import SafetensorsFile


def raw(path, header, data=b""):
    """A file of any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_it_reads_what_the_library_writes(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "half": rng.normal(size=(3, 4)).astype(np.float16),
        "single": rng.normal(size=(2, 1, 5)).astype(np.float32),
        "double": rng.normal(size=7),
        "number": np.array(2.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
    }
    save_file(arrays, tmp_path / "x.safetensors", {"ss_network_dim": "4"})
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert file.metadata == {"ss_network_dim": "4"}
    assert set(file) == set(arrays)
    for name, array in arrays.items():
        assert file.shape(name) == array.shape
        assert file[name].dtype == np.float32
        np.testing.assert_array_equal(file[name], array.astype(np.float32))


def test_bfloat16_is_the_upper_half_of_float32(tmp_path):
    values = np.array([1.0, -2.5, 3.3895314e38, 1e-40, np.inf], np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    path = raw(tmp_path / "x.safetensors", {"b": entry("BF16", (5,), (0, 10))}, halves.tobytes())
    expected = np.frombuffer((halves.astype(np.uint32) << 16).tobytes(), np.float32)
    np.testing.assert_array_equal(SafetensorsFile(path)["b"], expected)
    np.testing.assert_array_equal(expected[:2], values[:2])


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_eight_bits_are_the_numbers_of_torch(tmp_path, dtype):
    torch = pytest.importorskip("torch")
    every = torch.arange(256, dtype=torch.uint8).view(getattr(torch, dtype))
    path = raw(
        tmp_path / "x.safetensors",
        {"b": entry({"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}[dtype], (256,), (0, 256))},
        bytes(range(256)),
    )
    np.testing.assert_array_equal(SafetensorsFile(path)["b"], every.float().numpy())


def test_whole_numbers_are_read_where_that_is_asked_for(tmp_path):
    arrays = {
        dtype: np.array([0, 1], dtype)
        for dtype in ("bool", "int8", "uint8", "int16", "int32", "int64", "uint64")
    } | {"float16": np.array([0, 1], np.float16)}
    save_file(arrays, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors", whole_numbers=True)
    for dtype in arrays:
        np.testing.assert_array_equal(file[dtype], np.array([0, 1], np.float32))
        assert file.is_floating(dtype) == (dtype == "float16")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.safetensors", b"", "truncated or no .safetensors file"),
        ("x.safetensors", b"\x01\x00", "truncated or no .safetensors file"),
        ("x.safetensors", b"\xff" * 40, "truncated or no .safetensors file"),
        ("x.safetensors", (4).to_bytes(8, "little") + b"[[[[", "truncated or no .safetensors file"),
        ("x.safetensors", (2).to_bytes(8, "little") + b"[]", "truncated or no .safetensors file"),
        ("x.safetensors", (9**6).to_bytes(8, "little") + b"[" * 9**6, "nested more than 64 levels"),
        ("x.safetensors", b"PK\x03\x04" + b"\0" * 60, "is a pickle"),
        ("x.safetensors", b"\x80\x02}q\x00." + b"\0" * 60, "is a pickle"),
        ("x.pt", b"anything", "is a pickle"),
        ("x.bin", b"anything", "is a pickle"),
        ("x.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_what_is_no_such_file(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        SafetensorsFile(path)
    assert str(path) in str(error.value) and says in str(error.value)


@pytest.mark.parametrize("name", ["absent.safetensors", ".", "a\0b"])
def test_what_cannot_be_opened(tmp_path, name):
    with pytest.raises(InputError, match=r"there is no file|cannot read"):
        SafetensorsFile(tmp_path / name)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"w": entry(offsets=(0, 12), shape=(3,))}, "is truncated: w"),
        ({"w": entry(offsets=(4, 12))}, "is truncated: w"),
        ({"w": entry(offsets=(-8, 0))}, "w is amiss"),
        ({"w": entry(offsets=(8, 0))}, "w is amiss"),
        ({"w": entry(shape=(3,))}, "w is amiss"),
        ({"w": entry(shape=(-2, -1))}, "w is amiss"),
        ({"w": entry(shape=("2",))}, "w is amiss"),
        ({"w": entry("I64", (1,))}, "w in .* is of type I64"),
        ({"w": entry("F8_E8M0", (8,))}, "w in .* is of type F8_E8M0"),
        ({"w": {"dtype": "F32"}}, "no valid header"),
        ({"w": 3}, "no valid header"),
        ({"w\n\x1b[2J": entry()}, r"no valid header: 'w\\n"),
        ({"w" * 2000: entry()}, "no valid header: 'wwww"),
        ({"__metadata__": {"a": 1}}, "no valid header"),
        ({"__metadata__": [1]}, "no valid header"),
    ],
)
def test_headers_that_lie(tmp_path, header, says):
    path = raw(tmp_path / "x.safetensors", header, b"\0" * 8)
    with pytest.raises(InputError, match=says) as error:
        SafetensorsFile(path)
    assert str(path) in str(error.value)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.data())
def test_damage_is_an_error_or_harmless(tmp_path_factory, noise, data):
    path = tmp_path_factory.mktemp("damaged") / "x.safetensors"
    whole = raw(path, {"a": entry(), "b": entry("F16", (2, 2), (8, 16))}, b"\0" * 16).read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    try:
        file = SafetensorsFile(path)
        assert all(file[name].shape == file.shape(name) for name in file)
    except InputError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("spans", "size"),
    [
        ([(0, 4), (4, 8)], 12),  # behind the last
        ([(4, 8)], 8),  # before the first
        ([(0, 4), (8, 12)], 12),  # between
        ([(0, 8), (4, 12)], 12),  # shared
        ([(0, 8), (0, 8)], 8),  # twice
    ],
)
def test_bytes_of_no_tensor_or_of_two(tmp_path, spans, size):
    """The package of that name refuses them too."""
    header = {
        str(index): {"dtype": "F32", "shape": [(last - first) // 4], "data_offsets": [first, last]}
        for index, (first, last) in enumerate(spans)
    }
    path = raw(tmp_path / "x.safetensors", header, bytes(size))
    with pytest.raises(InputError, match=r"belong to no tensor|overlap or leave gaps"):
        SafetensorsFile(path)
    package = pytest.importorskip("safetensors")
    with pytest.raises(package.SafetensorError):
        package.safe_open(path, "numpy").__enter__()
