"""Pictures on disk: PNG with metadata, written whole or not at all, never over another file."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sdrt.errors import InputError, SdrtError
from sdrt.metadata import OWN, PARAMETERS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_SLUG = 48
# what file systems without hard links answer: FAT, CIFS, some of FUSE
_NO_HARD_LINKS = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS}


def slug(text: str) -> str:
    """What of a text can be part of a file name anywhere: a-z, 0-9 and single dashes; may be empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_MAX_SLUG].strip("-")


def default_name(prompt: str) -> str:
    """A file name that says what is in the picture."""
    return f"{slug(prompt) or 'picture'}.png"


def check_output(path: Path) -> None:
    """Whether a picture can be written to `path`; asked before any work is done.

    Raises InputError if it is no PNG, or as `check_place` does.
    """
    check_place(path, suffixes=(".png",))


def check_place(path: Path, *, suffixes: Sequence[str], option: str = "-o") -> None:
    """Whether a file can be written to `path`. option: where the user gave the name.

    Raises InputError if it is a directory, ends in none of `suffixes`, or its folder is absent or not
    writable.
    """
    try:
        is_directory = stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_directory = False
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {str(path)!r}: {error}; give another name with {option}") from None
    if is_directory:
        example = path / f"picture{suffixes[0]}"
        raise InputError(f"{path} is a directory; give a file name, as in {example}")
    if path.suffix.lower() not in suffixes:
        *others, last = (suffix[1:].upper() for suffix in suffixes)
        written = f"{', '.join(others)} or {last}" if others else last
        name = f"{path.name or 'picture'}{suffixes[0]}"
        raise InputError(f"{path} is not a {written} name; sdrt writes {written}: {name}")
    check_folder(path.parent, option=option)


def check_folder(folder: Path, *, option: str) -> None:
    """Whether a file can be made in a folder that is there. Raises InputError."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if not folder.exists():
            raise InputError(f"there is no folder {folder}; make it with: mkdir -p {folder}") from None
        raise InputError(
            f"cannot write to {folder}: {error.strerror}; give another folder with {option}"
        ) from None


def save_png(pixels: NDArray[np.uint8], path: Path, texts: Mapping[str, str]) -> Path:
    """Write RGB `pixels` [H, W, 3] as PNG and return where: `path`, or `path-1`, `-2` .. if it exists.

    texts: keyword -> text, as PNG text chunks. Raises SdrtError if the disk refuses.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    return write_whole(path, partial(Image.fromarray(pixels).save, format="PNG", pnginfo=info))


def write_whole(path: Path, write: Callable[[IO[bytes]], None], *, replace: bool = False) -> Path:
    """Let `write` fill a file beside its place, and move it there when it is whole; returns where.

    That is `path`, or `path-1`, `-2` .. if it exists. replace: `path` itself, in place of what is there.
    Raises SdrtError if the disk refuses.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:32]}-", suffix=".partial")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                write(stream)
            _open_to_others(temporary)
            return temporary.replace(path) if replace else _place(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
    except OSError as error:
        raise SdrtError(f"cannot write {path}: {error.strerror or error}") from None


def _open_to_others(temporary: Path) -> None:
    """Give a file of mkstemp's the mode of any new file."""
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)


def _place(temporary: Path, path: Path) -> Path:
    """Give `temporary` the first free name; a link fails if the name exists, where a rename would replace."""
    number = 0
    while True:
        target = path if number == 0 else path.with_stem(f"{path.stem}-{number}")
        try:
            os.link(temporary, target)
            return target
        except FileExistsError:
            number += 1
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            if not target.exists():
                return temporary.rename(target)
            number += 1


def read_metadata(path: Path) -> dict[str, Any]:
    """What a picture says of itself: {"size": [W, H], "parameters": text or None, "sdrt": text or None}.

    Raises InputError if it is no picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            found = {key: value for key, value in image.info.items() if isinstance(value, str)}
            size = list(image.size)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is not a picture that can be read: {error}") from None
    return {"size": size, PARAMETERS: found.get(PARAMETERS), OWN: found.get(OWN)}
