"""PNG, JPEG and WebP files with metadata: written whole or not at all, never over another file."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import sdrt
from sdrt.errors import InputError, SdrtError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMATS: Mapping[str, str] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
QUALITY = 95
LOSSLESS = 100
_WHOLE_COLOURS = 90  # the quality from which JPEG keeps a colour for each pixel rather than for each four
_MAX_EXIF = 65_533  # bytes in a segment of JPEG, without the two of its length
_MAX_SLUG = 48
# what file systems without hard links answer: FAT, CIFS, some of FUSE
_NO_HARD_LINKS = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS}


def slug(text: str) -> str:
    """What of a text can be part of a file name anywhere: a-z, 0-9 and single dashes; may be empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_MAX_SLUG].strip("-")


def default_name(prompt: str) -> str:
    """A file name that says what is in the picture."""
    return f"{slug(prompt) or 'picture'}.png"


def check_output(path: Path, *, known_folders: Collection[Path] = ()) -> None:
    """Whether a picture can be written to `path`; asked before any work is done.

    Raises InputError if it has no ending of FORMATS, or as `check_place` does.
    """
    check_place(path, suffixes=tuple(FORMATS), known_folders=known_folders)


def check_place(
    path: Path, *, suffixes: Sequence[str], option: str = "-o", known_folders: Collection[Path] = ()
) -> None:
    """Whether a file can be written to `path`.

    option: where the user gave the name. known_folders: those in which a file can be made.

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
    if path.parent not in known_folders:
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


def check_quality(quality: int) -> None:
    """Raise InputError unless it is 1 to 100."""
    if not 1 <= quality <= LOSSLESS:
        raise InputError(f"quality is {quality}; expected 1 to {LOSSLESS}, which is lossless for WebP")


def save_image(
    pixels: NDArray[np.uint8], path: Path, texts: Mapping[str, str], quality: int = QUALITY
) -> Path:
    """Write RGB `pixels` [H, W, 3] and return where: `path`, or `path-1`, `-2` .. if it exists.

    Its suffix, one of FORMATS, says how. texts: by keyword, as PNG's text chunks or EXIF. quality: of JPEG
    and WebP; WebP is lossless at 100.
    Warns of texts that JPEG has no room for. Raises SdrtError if the disk or the format refuses.
    """
    from PIL import Image

    options = format_options(FORMATS[path.suffix.lower()], texts, quality, path)
    try:
        return write_whole(path, partial(Image.fromarray(pixels).save, **options))
    except ValueError as error:  # a side longer than the format can say
        raise SdrtError(f"cannot write {path}: {error}; take another format, such as PNG") from None


def format_options(name: str, texts: Mapping[str, str], quality: int, path: Path) -> dict[str, Any]:
    """What Pillow is told to write one of FORMATS, moving or not."""
    if name == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        for keyword, text in texts.items():
            info.add_text(keyword, text)
        return {"format": name, "pnginfo": info}
    if name == "JPEG":
        sampling = {"subsampling": 0} if quality >= _WHOLE_COLOURS else {}
        return {"format": name, "quality": quality, "exif": _exif_of_jpeg(texts, path), **sampling}
    lossless = quality == LOSSLESS
    return {"format": name, "quality": quality, "lossless": lossless, "exif": _exif(texts)}


def _exif(texts: Mapping[str, str]) -> bytes:
    from sdrt.metadata.exif import write_exif

    return write_exif(texts, f"sdrt {sdrt.__version__}")


def _exif_of_jpeg(texts: Mapping[str, str], path: Path) -> bytes:
    """As much as a segment of JPEG holds: sdrt's own text is the one that makes the picture again."""
    from sdrt.metadata.keywords import OWN, PARAMETERS

    left_out = []
    for keyword in (PARAMETERS, OWN):
        exif = _exif(texts)
        if len(exif) <= _MAX_EXIF:
            break
        left_out.append(keyword)
        texts = {key: text for key, text in texts.items() if key != keyword}
    if left_out:
        warnings.warn(
            f"{path} does not hold its {' and '.join(left_out)} text: JPEG has room for 64 kB; "
            "PNG and WebP hold it",
            stacklevel=3,
        )
    return _exif(texts)


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
