"""Text on the terminal: everything that people read is printed here.

Names, prompts and messages come from files of strangers. An escape sequence in one of them could retitle or
clear the terminal, a carriage return or a bidi mark could show another line than the one that was printed.
So every character that controls a terminal is written as its escape: `\\x1b`, `\\r`, `\\u202e`.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import os
import sys
from pathlib import Path
from typing import IO, Any
from unicodedata import category

import click

# control and format characters, lone surrogates, separators of lines and paragraphs
_CONTROLLING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")  # Persian is written with one, families of emoji with the other
_ENCODING_ERRORS = "sdrt.escaped"
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


def printable(text: str) -> str:
    """The text on one line, with an escape in place of each character that controls a terminal."""
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def echo(text: object, *, err: bool = False) -> None:
    """Print one line of text."""
    _write(printable(str(text)), err)


def echo_lines(text: str, *, err: bool = False) -> None:
    """Print text whose newlines are our own."""
    for line in text.split("\n"):
        echo(line, err=err)


def echo_json(value: Any) -> None:
    """Print a value as JSON in ASCII, which escapes what is not printable."""
    _write(json.dumps(value, indent=2, default=str), err=False)


def echo_path(path: Path) -> None:
    """Print the name of a file; bytes that are no text are printed as they are, for scripts."""
    text = str(path)
    raw = os.fsencode(path).decode("utf-8", "surrogateescape") == text
    _write("".join(c if raw and "\udc80" <= c <= "\udcff" else _shown(c) for c in text), err=False)


def prepare_streams() -> None:
    """Make standard streams that are closed or cannot encode a character usable.

    A closed stream becomes the null device: the next file that is opened would otherwise get its number, and
    libraries would write their messages into a picture.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, _null_device(number, mode))
    codecs.register_error(_ENCODING_ERRORS, _encoded)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors=_ENCODING_ERRORS)


def output_failure(error: OSError) -> str | None:
    """Why standard output could not be written, if an error is of that: it names no file."""
    return error.strerror if error.filename is None and error.errno in _UNWRITABLE else None


def _write(line: str, err: bool) -> None:
    # there is no other place to say that stderr cannot be written
    with contextlib.suppress(OSError) if err else contextlib.nullcontext():
        click.echo(line, err=err)


def _shown(character: str) -> str:
    if character in _JOINERS or category(character) not in _CONTROLLING:
        return character
    return character.encode("unicode_escape").decode()


def _null_device(number: int, mode: str) -> IO[Any]:
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
    return open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)


def _encoded(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of a file's name as they are, other characters that the encoding lacks as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return b"".join(
        bytes([ord(c) - 0xDC00]) if "\udc80" <= c <= "\udcff" else c.encode("unicode_escape") for c in found
    ), error.end
