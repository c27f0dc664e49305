"""Texts of a picture as EXIF, which JPEG and WebP hold where PNG has text chunks.

AUTOMATIC1111 keeps its text in UserComment, after the eight bytes `UNICODE\\0`, in UTF-16 with the big end
first (piexif.helper.UserComment). sdrt's JSON is in MakerNote, which Exif leaves to whoever writes the file,
in UTF-8 after `sdrt\\0`. The layout is TIFF's (TIFF 6.0, section 2).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sdrt.metadata.keywords import OWN, PARAMETERS

if TYPE_CHECKING:
    from PIL import Image

_SOFTWARE, _EXIF_IFD, _MAKER_NOTE, _USER_COMMENT = 0x0131, 0x8769, 0x927C, 0x9286
_ASCII, _LONG, _UNDEFINED = 2, 4, 7  # types of values
_UNICODE, _ASCII_COMMENT, _OURS = b"UNICODE\0", b"ASCII\0\0\0", b"sdrt\0"
_ENTRY = struct.Struct(">HHI4s")  # tag, type, count, the value or where it is
_HEADER = b"Exif\0\0"  # of the segment of a JPEG file; offsets count from behind it
_START = 8


def write_exif(texts: Mapping[str, str], software: str) -> bytes:
    """The EXIF block that says `texts`, given by the keywords of PNG's text chunks."""
    own = []
    if OWN in texts:
        own.append((_MAKER_NOTE, _UNDEFINED, _OURS + texts[OWN].encode()))
    if PARAMETERS in texts:
        own.append((_USER_COMMENT, _UNDEFINED, _UNICODE + texts[PARAMETERS].encode("utf-16-be")))
    named = software.encode("ascii") + b"\0"
    first = _directory([(_SOFTWARE, _ASCII, named), (_EXIF_IFD, _LONG, bytes(4))], _START)
    where = struct.pack(">I", _START + len(first))
    first = _directory([(_SOFTWARE, _ASCII, named), (_EXIF_IFD, _LONG, where)], _START)
    return _HEADER + b"MM\0*" + struct.pack(">I", _START) + first + _directory(own, _START + len(first))


def read_exif(image: Image.Image) -> dict[str, str]:
    """The texts of a picture's EXIF, by keyword; none if there is none, or nothing that can be read."""
    try:
        values = image.getexif().get_ifd(_EXIF_IFD)
    except Exception:  # Pillow's parser meets whatever a stranger wrote with whatever its code raises
        return {}
    comment, note = values.get(_USER_COMMENT), values.get(_MAKER_NOTE)
    found = {}
    if isinstance(note, bytes) and note.startswith(_OURS):
        found[OWN] = note.removeprefix(_OURS).decode(errors="replace")
    if isinstance(comment, bytes) and (text := _user_comment(comment)):
        found[PARAMETERS] = text
    return found


def _user_comment(value: bytes) -> str:
    if not value.startswith(_UNICODE):
        return value.removeprefix(_ASCII_COMMENT).decode(errors="replace").strip("\0 ")
    text = value.removeprefix(_UNICODE)
    # some write the little end first; the high bytes of most texts are zero
    big = text[0::2].count(0) >= text[1::2].count(0)
    return text.decode("utf-16-be" if big else "utf-16-le", errors="replace")


def _directory(entries: list[tuple[int, int, bytes]], start: int) -> bytes:
    """An image file directory that begins at `start`, with its longer values behind it."""
    behind = start + 2 + _ENTRY.size * len(entries) + 4
    head, values = struct.pack(">H", len(entries)), b""
    for tag, kind, value in entries:
        count = len(value) // 4 if kind == _LONG else len(value)
        if len(value) <= 4:
            inline = value.ljust(4, b"\0")
        else:
            inline = struct.pack(">I", behind + len(values))
            values += value + b"\0" * (len(value) % 2)  # values begin at even offsets
        head += _ENTRY.pack(tag, kind, count, inline)
    return head + bytes(4) + values
