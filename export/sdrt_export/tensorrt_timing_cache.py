"""How long TensorRT's kernels took on this GPU, kept between builds: most of a build is measuring them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sdrt.private_files import read_private, write_private
from sdrt.verified import cache_folder

if TYPE_CHECKING:
    import tensorrt as trt

_MAX_BYTES = 1_000_000_000


class TimingCache:
    """A file of the user's cache folder for one architecture and version. Losing it costs time alone."""

    def __init__(self, architecture: str, version: str) -> None:
        self._file = cache_folder() / "tensorrt" / f"timings-{architecture}-{version}"

    def attach(self, config: trt.IBuilderConfig) -> None:
        """Let a build use what is known; nothing if the file is of another device, or damaged."""
        try:
            known = read_private(self._file, _MAX_BYTES)
        except OSError:
            known = b""
        for content in (known, b""):
            cache: trt.ITimingCache | None = config.create_timing_cache(content)
            if cache is not None and config.set_timing_cache(cache, False):
                return

    def save(self, config: trt.IBuilderConfig) -> None:
        """Keep what a build knows now; a read-only home is no error."""
        cache = config.get_timing_cache()
        if cache is None:
            return
        with contextlib.suppress(OSError):
            write_private(self._file, bytes(cache.serialize()))
