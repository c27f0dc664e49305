"""What a run yields: the pictures, and how far it is with those that it is making."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdrt.image_files import QUALITY, check_output, check_quality, save_image
from sdrt.request import Request
from sdrt.watching import Watched


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One result.

    pixels: [H, W, 3] uint8 RGB; request: the one that gives exactly this picture, with a count of 1;
    texts: what its file says of how it was made, by keyword.
    """

    pixels: NDArray[np.uint8]
    request: Request
    texts: Mapping[str, str]

    def save(self, path: Path | str, quality: int = QUALITY) -> Path:
        """Write PNG, JPEG or WebP, by the suffix, with metadata; returns where: `path`, or a free name.

        quality: of JPEG and WebP, 1 to 100; WebP is lossless at 100.
        Raises InputError if `path` has another suffix or cannot be written, SdrtError if the disk refuses.
        """
        check_output(Path(path))
        check_quality(quality)
        return save_image(self.pixels, Path(path), self.texts, quality)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run of `total` pictures is: after `first` of them, and `done` of `evaluations` of this batch.

    requests: one for each picture of the batch. What these look like so far is computed when it is asked for,
    and can be while on_step is called; both lists are empty before the first evaluation.
    """

    first: int
    total: int
    requests: tuple[Request, ...]
    done: int
    evaluations: int
    watched: Watched = field(repr=False, compare=False)

    def predictions(self) -> list[NDArray[np.uint8]]:
        """[H, W, 3] RGB of each: the finished picture as the network sees it now, decoded by the VAE.

        Raises InputError if the run has gone on since; ComputeError as `Pipeline.run` does.
        """
        return self.watched.predictions(self.done)

    def previews(self) -> list[NDArray[np.uint8]]:
        """[H / 8, W / 8, 3] RGB of each: the same without the VAE, by the bundle's map from latents to RGB.

        Raises InputError if the bundle has none too.
        """
        return self.watched.previews(self.done)

    @property
    def batch(self) -> int:
        """How many pictures are made at once."""
        return len(self.requests)
