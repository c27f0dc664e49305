"""Frames of a run as files: one by one in a folder, or always the latest in one place."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdrt.errors import InputError, SdrtError
from sdrt.image_files import check_folder, check_place, save_image, write_whole

PREVIEW = "sdrt-preview"  # keyword of the text that a preview says of itself
_PAUSE = 0.1  # seconds between two previews: nobody sees more
_QUICK = 1  # of PNG's nine levels of compression


class FrameFolder:
    """`step-001.png` and so on; in folders 1, 2, ... if there are several pictures."""

    def __init__(self, path: Path, pictures: int) -> None:
        self._path = path
        self._pictures = pictures

    def check(self) -> None:
        """Raise InputError unless the folder is empty, or can be made."""
        try:
            there = next(self._path.iterdir(), None)
        except FileNotFoundError:
            check_folder(self._path.parent, option="--frames-dir")
            return
        except OSError as error:
            raise InputError(
                f"{self._path} cannot be a folder of frames: {error.strerror}; give another with --frames-dir"
            ) from None
        if there is not None:
            raise InputError(f"{self._path} is not empty; give a folder of its own with --frames-dir")
        check_folder(self._path, option="--frames-dir")

    def write(self, number: int, step: int, pixels: NDArray[np.uint8]) -> None:
        """Write a frame of a picture, counted from 0. Raises SdrtError if the disk refuses."""
        width = len(str(self._pictures))
        folder = self._path / f"{number + 1:0{width}}" if self._pictures > 1 else self._path
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SdrtError(f"cannot make the folder {folder}: {error.strerror}") from None
        save_image(pixels, folder / f"step-{step:03}.png", {})


class PreviewFile:
    """A PNG that is replaced as the run goes on: whole at any moment, and over nothing but a preview."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = -np.inf

    def check(self) -> None:
        """Raise InputError if there is something that is no preview, or nothing can be written."""
        check_place(self._path, suffixes=(".png",), option="--preview")
        if self._path.exists() and not _is_preview(self._path):
            raise InputError(
                f"{self._path} is no preview of an earlier run and would be replaced; give another name with "
                "--preview"
            )

    @property
    def is_due(self) -> bool:
        """Whether anybody could have seen the last one."""
        return time.monotonic() >= self._next

    def write(self, pictures: Sequence[NDArray[np.uint8]], says: str) -> None:
        """Show pictures [H, W, 3] of one batch side by side. Raises SdrtError if the disk refuses."""
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        if self._next == -np.inf:
            self.check()  # once more: loading a model takes its time
        info = PngInfo()
        info.add_text(PREVIEW, says)
        image = Image.fromarray(np.concatenate(pictures, axis=1))
        save = partial(image.save, format="PNG", pnginfo=info, compress_level=_QUICK)
        write_whole(self._path, save, replace=True)
        self._next = time.monotonic() + _PAUSE


def _is_preview(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            return PREVIEW in image.info
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
