"""The names of external files are found wherever ONNX can hide a tensor; no bytes make the search fail."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sdrt.errors import BundleError
from sdrt.onnx_external_data import external_files
from sdrt.onnx_initializers import read_initializers
from sdrt.onnx_signature import read_signature
from sdrt.protobuf import encode, fields


def external(location: str, name: str = "w") -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def sparse(location: str) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(
        values=external(location), indices=external("indices-" + location), dims=[2]
    )


def model(nodes=(), initializers=(), functions=(), sparse_initializers=()) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", [], [], list(initializers))
    graph.sparse_initializer.extend(sparse_initializers)
    return helper.make_model(graph, functions=list(functions))


def constant(**attribute) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], **attribute)


def branch(location: str, depth: int = 1) -> onnx.NodeProto:
    """An If whose branches hold an external tensor, `depth` branches deep."""
    inner = [branch(location, depth - 1)] if depth > 1 else []
    graph = helper.make_graph(inner, "b", [], [], [] if inner else [external(location)])
    other = helper.make_graph([], "e", [], [])
    return helper.make_node("If", ["x"], ["y"], then_branch=other, else_branch=graph)


def function(location: str) -> onnx.FunctionProto:
    nodes = [constant(value=external(location)), branch("deep-" + location)]
    made = helper.make_function("d", "f", [], ["c"], nodes, [helper.make_opsetid("", 20)])
    made.attribute_proto.append(helper.make_attribute("a", external("default-" + location)))
    return made


def graphs_attribute(location: str) -> onnx.NodeProto:
    return helper.make_node("N", [], ["y"], gs=[helper.make_graph([], "g", [], [], [external(location)])])


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (model(), set()),
        (model(initializers=[numpy_helper.from_array(np.zeros(3), "in.place")]), set()),
        (model(initializers=[external("a"), external("b/c"), external("a")]), {"a", "b/c"}),
        (model([branch("a")]), {"a"}),
        (model([branch("a", depth=5)]), {"a"}),
        (model([constant(value=external("a"))]), {"a"}),
        (model([constant(sparse_value=sparse("a"))]), {"a", "indices-a"}),
        (model([helper.make_node("N", [], ["y"], ts=[external("a"), external("b")])]), {"a", "b"}),
        (model([helper.make_node("N", [], ["y"], ts=[sparse("a"), sparse("b")])]), {"a", "b"}),
        (model([graphs_attribute("a")]), {"a"}),
        (model(functions=[function("a")]), {"a", "deep-a", "default-a"}),
        (model(sparse_initializers=[sparse("a")]), {"a", "indices-a"}),
        (model(initializers=[external("../é\n")]), {"../é\n"}),
    ],
    ids=[
        "none",
        "inside",
        "initializers",
        "If",
        "nested If",
        "Constant",
        "sparse Constant",
        "tensors attribute",
        "sparse tensors attribute",
        "graphs attribute",
        "function",
        "sparse initializer",
        "odd name",
    ],
)
def test_finds(tmp_path, made, found):
    file = tmp_path / "model.onnx"
    file.write_bytes(made.SerializeToString())
    assert external_files(file) >= found
    assert not found or {name.removeprefix("indices-") for name in external_files(file)} == {
        name.removeprefix("indices-") for name in found
    }


def test_last_of_two_values_counts_as_in_protobuf():
    # a reader that took the first would look at another file than the one that is opened
    tensor = external("harmless")
    entry = (
        tensor.external_data[0].SerializeToString()
        + onnx.StringStringEntryProto(value="/secret").SerializeToString()
    )
    assert onnx.StringStringEntryProto.FromString(entry).value == "/secret"
    del tensor.external_data[:]
    content = field(7, field(5, tensor.SerializeToString() + field(13, entry)))
    (parsed,) = onnx.load_model_from_string(content).graph.initializer
    assert parsed.external_data[0].value == "/secret"
    assert external_files(InMemory(content)) == {"/secret"}


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    key, length = number << 3 | 2, len(content)
    varint = bytearray()
    while length > 127:
        varint.append(length & 127 | 128)
        length >>= 7
    return bytes([key, *varint, length]) + content


@pytest.mark.parametrize("depth", [40, 5000])
def test_nesting_without_end_is_refused(depth):
    graph = field(5, external("a").SerializeToString())
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))  # node, attribute, graph
    with pytest.raises(BundleError, match="damaged"):
        external_files(InMemory(field(7, graph)))


class InMemory:
    """A file that is not on the disk, for the thousands that follow."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read_bytes(self) -> bytes:
        return self._content

    def __str__(self) -> str:
        return "in-memory.onnx"


SOUND = model(
    [branch("a"), constant(value=external("b"))], [external("c")], [function("d")]
).SerializeToString()
fuzz = settings(deadline=1000, max_examples=300)


def look(content: bytes) -> set[str] | None:
    """The names found, None if the graph was refused."""
    try:
        return external_files(InMemory(content))
    except BundleError as error:
        assert "in-memory.onnx" in str(error)
        return None


@fuzz
@given(content=st.binary(max_size=400))
def test_random_bytes(content):
    look(content)


@fuzz
@given(at=st.integers(0, len(SOUND) - 1), byte=st.integers(0, 255), end=st.integers(0, len(SOUND)))
def test_damaged_graphs(at, byte, end):
    content = SOUND[:at] + bytes([byte]) + SOUND[at + 1 :]
    look(content)
    look(content[:end])


@fuzz
@given(at=st.integers(0, len(SOUND) - 1), byte=st.integers(0, 255))
def test_nothing_that_onnx_reads_is_missed(at, byte):
    content = SOUND[:at] + bytes([byte]) + SOUND[at + 1 :]
    found = look(content)
    try:
        parsed = onnx.load_model_from_string(content)
    except Exception:  # protobuf refuses what is no message
        return
    for tensor in parsed.graph.initializer:
        for entry in tensor.external_data:
            assert found is None or entry.key != "location" or entry.value in found


def varint(value: int, length: int = 0) -> bytes:
    """A number in at least so many bytes."""
    groups = []
    while value > 127 or len(groups) + 1 < length:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def tagged(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content


ENTRY = b"".join(
    tagged(bytes([number << 3 | 2]), text) for number, text in ((1, b"location"), (2, b"/secret"))
)
TENSOR_START = external("w").SerializeToString().partition(b"j")[0]  # `j` is the tag of external_data


def hidden(tag: bytes) -> bytes:
    """A graph whose tensor has its location under this tag, which should be that of external_data."""
    tensor = b"".join([TENSOR_START, tagged(tag, ENTRY), b"p\x01"])  # data_location EXTERNAL
    return b"\x08\x0a" + field(7, field(5, tensor))


@pytest.mark.parametrize(
    "tag",
    [
        varint(13 << 3 | 2 | 1 << 32),
        varint(13 << 3 | 2 | 7 << 32),
        varint(13 << 3 | 2 | 1 << 62),
        varint(13 << 3 | 2, 5),
        varint(13 << 3 | 2, 2),
        varint(13 << 3 | 2, 10),
        b"\xea\x80\x80\x80\x70",
    ],
    ids=[
        "bit 32",
        "bits 32 to 34",
        "bit 62",
        "5 bytes",
        "2 bytes",
        "10 bytes",
        "high bits of the fifth byte",
    ],
)
def test_a_tag_that_others_read_otherwise_is_refused(tag, tmp_path):
    """onnxruntime and OpenVINO keep 32 bits of a tag, and would open the file."""
    assert look(hidden(b"j")) == {"/secret"}
    assert onnx.load_model_from_string(hidden(b"j")).graph.initializer[0].external_data[0].value == "/secret"
    assert look(hidden(tag)) is None
    path = tmp_path / "x.onnx"
    path.write_bytes(hidden(tag))
    for read in (read_initializers, read_signature):
        with pytest.raises(BundleError, match="damaged"):
            read(path)


@pytest.mark.parametrize(
    "content",
    [
        field(7, b"") + b"\x00\x00",  # field 0
        b"\x08" + varint(1 << 64),
        b"\x08" + b"\xff" * 9 + b"\x02",
        b"\x08" + varint(10, 2),
        b"\x08" + b"\x80" * 10 + b"\x01",
        b"\x3a" + varint(5, 3) + b"12345",
        b"\x3a" + varint(2**63) + b"12345",
        b"\x3b\x3c",  # a group
    ],
    ids=[
        "field 0",
        "65 bits",
        "a tenth byte of 2",
        "a byte too many",
        "11 bytes",
        "long length",
        "huge",
        "group",
    ],
)
def test_numbers_that_others_read_otherwise_are_refused(content):
    assert look(content) is None


@given(number=st.integers(0, 2**64 - 1), field_number=st.integers(1, 2**29 - 1))
def test_every_number_that_is_written_is_read(number, field_number):
    assert list(fields(memoryview(encode(field_number, number)))) == [(field_number, number)]


@settings(deadline=1000, max_examples=500)
@given(
    at=st.integers(0, len(hidden(b"j")) - 1),
    inserted=st.binary(max_size=6),
    removed=st.integers(0, 3),
)
def test_onnxruntime_opens_nothing_that_was_not_seen(at, inserted, removed):
    """As protobuf reads it, which has 32 bits of a tag in every language."""
    sound = hidden(b"j")
    content = sound[:at] + inserted + sound[at + removed :]
    found = look(content)
    try:
        parsed = onnx.load_model_from_string(content)
    except Exception:
        return
    for tensor in parsed.graph.initializer:
        for entry in tensor.external_data:
            assert found is None or entry.key != "location" or entry.value in found
