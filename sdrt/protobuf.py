"""The wire format of protocol buffers, read without a schema: https://protobuf.dev/programming-guides/encoding.

Only encodings that all readers read alike are accepted. The libraries that run a graph keep 32 bits of a tag:
field 13 with a bit above them is field 13 to them and another field to a reader of all bits. They also accept
numbers in more bytes than needed, and of more than 64 bits. No program writes these; here they are errors.
"""

from __future__ import annotations

from collections.abc import Iterator


def fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field: an int for a varint, bytes for what has a length.

    Fixed-width fields are passed over. Raises IndexError or ValueError if the message is damaged.
    """
    for number, value, _ in encoded_fields(message):
        if value is not None:
            yield number, value


def encoded_fields(message: memoryview) -> Iterator[tuple[int, memoryview | int | None, memoryview]]:
    """Number, value and encoding of each field; the value of a fixed-width field is None."""
    at, end = 0, len(message)
    while at < end:
        start = at
        key, at = _varint(message, at)
        if not 8 <= key < 1 << 32:
            raise ValueError("no tag")  # field 0, or more than 32 bits
        value: memoryview | int | None = None
        wire = key & 7
        if wire == 0:
            value, at = _varint(message, at)
        elif wire == 1:
            at += 8
        elif wire == 5:
            at += 4
        elif wire == 2:
            length, at = _varint(message, at)
            if length > end - at:
                raise ValueError("a field ends after its message")
            value = message[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {wire}")
        if at > end:
            raise ValueError("a field ends after its message")
        yield key >> 3, value, message[start:at]


def encode(number: int, value: bytes | int) -> bytes:
    """A field that holds bytes or a number of at least 0."""
    if isinstance(value, int):
        return _encode_varint(number << 3) + _encode_varint(value)
    return _encode_varint(number << 3 | 2) + _encode_varint(len(value)) + value


def varints(packed: memoryview) -> Iterator[int]:
    """The numbers of a packed repeated field."""
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of at most 64 bits in as few bytes as it needs, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if (byte == 0 and shift) or value >> 64:
                raise ValueError("varint too long")
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def _encode_varint(value: int) -> bytes:
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
