"""Frames to one file that moves: GIF, WebP, or PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdrt.image_files import format_options, write_whole
from sdrt.metadata.keywords import PARAMETERS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

FORMATS: Mapping[str, str] = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}
HELD = 2.0  # seconds that the last frame stays
_WHOLE, _QUICKEST, _SLOWEST = 3.0, 0.06, 0.25  # seconds: all frames before the last one, and each
_GIF_COLOURS = 256
QUALITY = 90  # of WebP


def save_animation(
    frames: Sequence[NDArray[np.uint8]],
    path: Path | str,
    *,
    texts: Mapping[str, str] | None = None,
    seconds: float | None = None,
    held: float = HELD,
) -> Path:
    """Write RGB frames [H, W, 3], in a loop; returns where: `path`, or `path-1`, `-2` .. if it exists.

    Its suffix, one of FORMATS, says how: a GIF has 256 colours in each frame, WebP loses a little, PNG none.
    seconds: of each frame, by default as many as make about three in all; held: of the last one.
    texts: by keyword; a GIF holds the `parameters` alone.
    Raises SdrtError if the disk refuses.
    """
    path = Path(path)
    if seconds is None:
        seconds = min(max(_WHOLE / max(len(frames) - 1, 1), _QUICKEST), _SLOWEST)
    # a GIF counts hundredths of a second
    durations = [10 * round(100 * time) for time in (*[seconds] * (len(frames) - 1), held)]
    name = FORMATS[path.suffix.lower()]
    first, *others = _gif_frames(frames) if name == "GIF" else _frames(frames)
    options = _gif_options(texts or {}) if name == "GIF" else format_options(name, texts or {}, QUALITY, path)
    return write_whole(
        path,
        partial(
            first.save,
            save_all=True,
            append_images=others,
            duration=durations,
            loop=0,
            **options,
        ),
    )


def _gif_options(texts: Mapping[str, str]) -> dict[str, Any]:
    comment = texts.get(PARAMETERS)
    return {"format": "GIF"} if comment is None else {"format": "GIF", "comment": comment.encode()}


def _frames(frames: Sequence[NDArray[np.uint8]]) -> list[Image.Image]:
    from PIL import Image

    return [Image.fromarray(frame) for frame in frames]


def _gif_frames(frames: Sequence[NDArray[np.uint8]]) -> list[Image.Image]:
    """Each in colours of its own, and without dithering: its noise would move from frame to frame.

    The octree is quick and its files are small; the last frame is looked at, and the median cut is 3 to 6 dB
    nearer to it.
    """
    from PIL import Image

    *passing, last = _frames(frames)
    octree, cut, no = Image.Quantize.FASTOCTREE, Image.Quantize.MEDIANCUT, Image.Dither.NONE
    return [
        *(frame.quantize(_GIF_COLOURS, method=octree, dither=no) for frame in passing),
        last.quantize(_GIF_COLOURS, method=cut, dither=no),
    ]
