"""Pictures on disk: PNG with metadata, written whole or not at all, never over another file."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    Raises InputError if it is a directory, is no PNG, or its folder is absent or not writable.
    """
    try:
        is_directory = stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_directory = False
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {str(path)!r}: {error}; give another name with -o") from None
    if is_directory:
        raise InputError(f"{path} is a directory; give a file name, as in {path / 'picture.png'}")
    if path.suffix.lower() != ".png":
        raise InputError(f"{path} is not a PNG name; sdrt writes PNG: {path.name or 'picture'}.png")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        if not path.parent.exists():
            raise InputError(
                f"there is no folder {path.parent}; make it with: mkdir -p {path.parent}"
            ) from None
        raise InputError(
            f"cannot write to {path.parent}: {error.strerror}; give another folder with -o"
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
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:32]}-", suffix=".partial")
        try:
            with os.fdopen(handle, "wb") as stream:
                Image.fromarray(pixels).save(stream, format="PNG", pnginfo=info)
            return _place(Path(temporary), path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
    except OSError as error:
        raise SdrtError(f"cannot write {path}: {error.strerror or error}") from None


def _place(temporary: Path, path: Path) -> Path:
    """Give `temporary` the first free name; a link fails if the name exists, where a rename would replace."""
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)
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
