"""Escapes that are known and still open: each with an input that shows it.

A campaign prints them, replays them, and does not fail for others of the same kind. An entry whose input no
longer escapes has to go: the tests say so.
"""

from __future__ import annotations

import base64
import io
import zipfile
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Known:
    """target: by its name. escape: as `Verdict.escape` has it. reproducer: the input. why: what is wrong.

    also: what else the same fault shows itself as. everywhere: other targets have it, too.
    """

    target: str
    escape: str
    reproducer: bytes
    why: str
    also: tuple[str, ...] = ()
    everywhere: bool = False

    def covers(self, target: str, escape: str) -> bool:
        """Whether an escape of a target is this one."""
        return escape in (self.escape, *self.also) and (self.everywhere or self.target == target)


_TIFF_OF_TWO_FRAMES = base64.b64decode(
    "SUkqAAgAAAAKAAABBAABAAAACAAAAAEBBAABAAAACAAAAAIBAwADAAAAhgAAAAMBAwABAAAAAQAAAAYBAwABAAAAAgAAABEB"
    "BAABAAAAjAAAABUBAwABAAAAAwAAABYBBAABAAAACAAAABcBBAABAAAAwAAAABwBAwABAAAAAQAAAFgBAAAIAAgACAAA/wAA"
    "/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA"
    "/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAAAQAA/wAA/wAA/wAA/wAA/wAA/wAA"
    "/wAAAAD/AAAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAA/wAAAAA="
)


def _pickle_in_an_archive(pickled: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), pickled)
    return buffer.getvalue()


def _safetensors(header: str) -> bytes:
    return len(header).to_bytes(8, "little") + header.encode() + bytes(4)


KNOWN: tuple[Known, ...] = (
    Known(
        target="prompts.csv",
        escape="what is printed is no printable line",
        reproducer=b"pro\x07mpt\na\n",
        why="control characters of a file reach the terminal in messages",
        everywhere=True,
    ),
    Known(
        target="text",
        escape="UnicodeEncodeError, checked.py:typed",
        reproducer=b'sdrt\n{"prompt": "", "mask_blur": "\\ud800"}',
        why="a lone surrogate in a picture's JSON, where a number was expected",
        everywhere=True,
    ),
    Known(
        target="prompts.jsonl",
        escape="UnicodeEncodeError, setting_words.py:read_setting",
        reproducer=b'{"prompt": "a", "steps": "\\ud800"}',
        why="a lone surrogate in a line of JSON, where a number was expected",
    ),
    Known(
        target="picture.png",
        escape="TypeError, image_texts.py:read_texts",
        reproducer=_TIFF_OF_TWO_FRAMES,
        why="Pillow counts frames by reading them, outside of what turns its exceptions into InputError",
        also=("KeyError, image_texts.py:read_texts", "IndexError, image_texts.py:read_texts"),
    ),
    Known(
        target="embedding.safetensors",
        escape="ValueError, safetensors_file.py:__getitem__",
        reproducer=_safetensors(f'{{"a": {{"dtype": "F32", "shape": {[1] * 65}, "data_offsets": [0, 4]}}}}'),
        why="a tensor with more axes than numpy has",
        everywhere=True,
    ),
    Known(
        target="embedding.pt",
        escape="more than 500 MB",
        reproducer=_pickle_in_an_archive(b"\x80\x02}r\xff\xff\xff\x03."),
        why="pickle's memo is as long as the largest index in it",
        also=("more than 2 s, torch_file.py:read_torch_file", "more than 2 s, torch_file.py:find_class"),
    ),
)
