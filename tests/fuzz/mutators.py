"""Seeded changes of inputs: of bytes, of JSON, of words, of PNG chunks and of protobuf fields.

All take the generator of one case and give a new input; the same generator gives the same one.
"""

from __future__ import annotations

import copy
import json
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutate = Callable[[bytes, Random], bytes]

MOST = 100_000
"""Bytes of an input whose time and memory are bounded; larger originals may keep their size."""

CANARY = "../outside/canary"
_NUMBERS = (0, 1, 2, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 32767, 65535, 2**24, 2**31 - 1, 2**31)
_LARGE = (2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, 10**400)
_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "\n",
        "\r",
        "\x1b[31m",
        "\x1b]0;x\x07",
        "\u202e",
        "\u2028",
        "\ud800",
        "\U0001f600",
        "\u0663",
    ),
    *(
        "é" * 9,
        "a" * 300,
        "a" * 5_000,
        "9" * 5_000,
        CANARY,
        "/dev/zero",
        "..",
        "nan",
        "NaN",
        "inf",
        "-1",
        "1e999",
    ),
    *(
        "0x10",
        "1_000",
        "true",
        "None",
        "%s",
        "{0}",
        "{prompt.__class__}",
        "<lora:x:1>",
        "(",
        "[",
        "a: b, c: d",
    ),
)


def integer(random: Random) -> int:
    """One near a bound of some type."""
    number = random.choice((*_NUMBERS, *_LARGE))
    return random.choice((number, -number, number + 1, random.randint(-10, 10)))


def value(random: Random) -> Any:
    """Any value of JSON, odd ones rather than usual ones."""
    match random.randrange(10):
        case 0:
            return random.choice((None, True, False))
        case 1 | 2:
            return integer(random)
        case 3:
            return random.choice((0.5, -0.0, 1e-320, 1e308, -1.5, math.inf, -math.inf, math.nan))
        case 4 | 5 | 6:
            return text(random)
        case 7:
            return random.choice(([], {}, [[]], {"": {}}, [None], {"a": 1}))
        case 8:
            return [value(random) for _ in range(random.randrange(4))]
        case _:
            return {text(random): value(random) for _ in range(random.randrange(3))}


def text(random: Random) -> str:
    """A text that somebody might not expect."""
    found = random.choice(_TEXTS)
    return found + random.choice(_TEXTS) if random.random() < 0.2 else found


def bytes_(content: bytes, random: Random, *, changes: int | None = None) -> bytes:
    """A few changes of single bytes, numbers and slices."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4, 8)) if changes is None else changes):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 2, 4, 8, 16, 64, 1000)))
        match random.randrange(9):
            case 0 if at < len(data):
                data[at] ^= 1 << random.randrange(8)
            case 1 if at < len(data):
                data[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 2:
                data[at:end] = b""
            case 3:
                data[at:at] = random.randbytes(random.choice((1, 2, 4, 16)))
            case 4:  # a slice again, many times perhaps
                data[at:at] = data[at:end] * random.choice((1, 1, 2, 50, 5_000))
            case 5:
                size = random.choice((1, 2, 4, 8))
                number = integer(random) % 256**size
                data[at : at + size] = number.to_bytes(size, random.choice(("little", "big")))
            case 6 if random.random() < 0.3:
                del data[at:]
            case 7:
                other = random.randrange(len(data) + 1)
                data[at:end] = data[other : other + end - at]
            case 8:
                data[at:at] = text(random).encode("utf-8", "surrogatepass")
        del data[max(MOST, len(content)) :]
    return bytes(data)


def words(dictionary: Sequence[str]) -> Mutate:
    """Changes of a text in words of its language."""

    def mutate(content: bytes, random: Random) -> bytes:
        written = content.decode("utf-8", "surrogateescape")
        for _ in range(random.choice((1, 2, 4, 10))):
            at = random.randrange(len(written) + 1)
            end = min(len(written), at + random.choice((1, 3, 10, 50)))
            word = random.choice(dictionary) if random.random() < 0.8 else text(random)
            match random.randrange(6):
                case 0 | 1:
                    written = written[:at] + word + written[at:]
                case 2:
                    written = written[:at] + word + written[end:]
                case 3:
                    written = written[:at] + written[end:]
                case 4:
                    times = random.choice((2, 10, 90, 110, 1_000, 20_000))
                    written = written[:at] + word * min(times, MOST // max(len(word), 1)) + written[at:]
                case 5:
                    written = written[:at] + written[at:end] * random.choice((2, 20, 1_000)) + written[end:]
            written = written[:MOST]
        return written.encode("utf-8", "surrogatepass")

    return mutate


def json_(content: bytes, random: Random) -> bytes:
    """Changes of a tree: values, keys, places, depth; keys that stand twice, numbers that no float holds."""
    tree = json.loads(content)
    try:
        for _ in range(random.choice((1, 1, 2, 3))):
            tree = _changed(tree, random)
        written = json.dumps(tree, ensure_ascii=random.random() < 0.5)
    except RecursionError:  # deeper than Python copies and writes
        return b"[" * random.choice((900, 5_000, 50_000)) + content
    if random.random() < 0.1 and (places := [i for i, c in enumerate(written) if c == "{"]):
        at = random.choice(places) + 1
        key = written[at : written.find(":", at)] if random.random() < 0.7 else json.dumps(text(random))
        one = f"{key}: {json.dumps(value(random))}, "
        written = written[:at] + one * random.choice((1, 1, 3, 5_000)) + written[at:]
        written = written[: 4 * MOST]
    if random.random() < 0.05:
        written = written.replace("0", random.choice(("1e400", "-0", "1E-999", "0" * 5_000)), 1)
    return written.encode("utf-8", "surrogatepass")


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Container and key of every node."""
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, child in pairs:
            found.append((node, key))
            waiting.append(child)
    return found


def _changed(tree: Any, random: Random) -> Any:
    places = _places(tree)
    if not places or random.random() < 0.02:
        return value(random)
    # keys near the root are few and matter most
    node, key = random.choice(places[: random.choice((10, 100, len(places)))])
    match random.randrange(9):
        case 0 | 1 | 2:
            node[key] = value(random)
        case 3:
            del node[key]
        case 4 if isinstance(node, dict):
            node[text(random)] = node.pop(key)
        case 5:
            other, there = random.choice(places)
            node[key] = copy.deepcopy(other[there]) if there in _keys(other) else None
        case 6:
            deep = node[key]
            for _ in range(random.choice((1, 2, 60, 300))):
                deep = [deep] if random.random() < 0.5 else {"a": deep}
            node[key] = deep
        case 7 if isinstance(node[key], int | float) and not isinstance(node[key], bool):
            node[key] = random.choice((-node[key], node[key] + 1, node[key] * 1000, str(node[key])[:400]))
        case 8 if isinstance(node, list):
            most = MOST // (len(json.dumps(node[key])) + 2) + 1
            node[key:key] = [copy.deepcopy(node[key])] * min(random.choice((1, 10, 2_000)), most)
        case _ if isinstance(node[key], str):
            node[key] = node[key] + text(random)
    return tree


def _keys(node: Any) -> Any:
    return node if isinstance(node, dict) else range(len(node))


def png(content: bytes, random: Random) -> bytes:
    """Chunks of a PNG left out, repeated, moved, changed, with checksums that are right."""
    chunks = list(_chunks(content))
    for _ in range(random.choice((1, 2, 3))):
        at = random.randrange(len(chunks))
        kind, data = chunks[at]
        match random.randrange(5):
            case 0:
                chunks[at] = (kind, bytes_(data, random))
            case 1:
                chunks[at] = (bytes_(kind, random, changes=1)[:4].ljust(4, b"x"), data)
            case 2:
                chunks[at:at] = [chunks[at]] * random.choice((1, 5, 500))
            case 3 if len(chunks) > 1:
                del chunks[at]
            case _:
                random.shuffle(chunks)
    return content[:8] + b"".join(png_chunk(kind, data) for kind, data in chunks)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    at, found = 8, []
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += length + 12
    return found


def protobuf(content: bytes, random: Random) -> bytes:
    """Fields of a message, or of one within it, repeated, left out or changed; lengths stay right."""
    fields = _fields(content)
    if not fields:
        return bytes_(content, random)
    at = random.randrange(len(fields))
    key, data = fields[at]
    match random.randrange(8):
        case 0 | 1 | 2 | 3 if isinstance(data, bytes) and len(data) > 2:
            fields[at] = (key, protobuf(data, random))
        case 4:
            fields[at:at] = [fields[at]] * random.choice((1, 3, 1_000))
        case 5:
            del fields[at]
        case 6 if isinstance(data, int):
            fields[at] = (key, integer(random) % 2**64)
        case 6:
            fields[at] = (key, bytes_(data, random))
        case _:
            fields[at] = (random.choice((key + 8, key ^ 2, random.choice(fields)[0])), data)
    encoded = b"".join(_field(key, data, random.random() < 0.002) for key, data in fields)
    return encoded[: max(MOST, len(content))]


def _fields(content: bytes) -> list[tuple[int, int | bytes]]:
    """Empty if it is no message."""
    at, found = 0, []
    try:
        while at < len(content):
            key, at = _varint(content, at)
            if key & 7 == 0:
                number, at = _varint(content, at)
                found.append((key, number))
                continue
            length = {1: 8, 5: 4}.get(key & 7)
            if length is None:
                if key & 7 != 2:
                    return []
                length, at = _varint(content, at)
            if at + length > len(content):
                return []
            found.append((key, content[at : at + length]))
            at += length
    except IndexError:
        return []
    return found


def _varint(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while content[at] >= 0x80:
        number |= (content[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | content[at] << shift, at + 1


def _field(key: int, data: int | bytes, padded: bool) -> bytes:
    if isinstance(data, int):
        return _encoded(key & ~7, False) + _encoded(data, padded)
    if key & 7 == 0:
        key |= 2
    if key & 7 == 2:
        return _encoded(key, False) + _encoded(len(data), padded) + data
    return _encoded(key, padded) + data


def _encoded(number: int, padded: bool) -> bytes:
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    if padded:  # the same number in more bytes
        groups[-1] |= 0x80
        groups.append(0)
    return bytes(groups)
