"""Watching a run of `sdrt generate`: animations, frames, a preview."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdrt.cli.sections import Section
from sdrt.errors import InputError

if TYPE_CHECKING:
    from sdrt.manifest import Manifest
    from sdrt.request import Request
    from sdrt.watcher import Watcher

_MOST_FRAMES = 4e9  # bytes, of the pictures that are made at once
_AT_ONCE = 8
_SMALL = 128 * 128  # pixels; decoding takes no time, and of so few latents a map makes no picture


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """As the command line gave them. decoded: None is yes, but no for previews of larger pictures."""

    gif: Path | None
    frames_dir: Path | None
    preview: Path | None
    every: int | None
    decoded: bool | None

    def watcher(self, manifest: Manifest, requests: Sequence[Request], *, in_one: bool) -> Watcher:
        """Who watches a run of these requests, one for each picture; nothing is written yet.

        in_one: the pictures are the frames of one animation.
        Raises InputError for places that cannot be written, frames that memory has no room for, a bundle
        without a map from latents to RGB, and options that have nothing to say.
        """
        from sdrt.frame_files import FrameFolder, PreviewFile
        from sdrt.watcher import Watcher
        from sdrt.watching import latent_rgb_of

        frames = self.gif is not None or self.frames_dir is not None
        if not frames and self.preview is None and (self.every is not None or self.decoded is not None):
            raise InputError(
                "--every, --decoded and --projected say how to watch; give --gif, --frames-dir or --preview"
            )
        project_frames, project_previews = self.decoded is False, not self.decoded
        if self.decoded is None:
            project_previews = max(one.width * one.height for one in requests) > _SMALL
        if (frames and project_frames) or (self.preview is not None and project_previews):
            latent_rgb_of(manifest)
        watcher = Watcher(
            requests,
            animation=self.gif,
            in_one=in_one and self.gif is not None,
            folder=None if self.frames_dir is None else FrameFolder(self.frames_dir, len(requests)),
            preview=None if self.preview is None else PreviewFile(self.preview),
            every=self.every or 1,
            project_frames=project_frames,
            project_previews=project_previews,
        )
        watcher.check()
        if self.gif is not None and not in_one:
            self._check_memory(manifest, requests)
        return watcher

    def _check_memory(self, manifest: Manifest, requests: Sequence[Request]) -> None:
        most = max(
            one.width * one.height * 3 * one.compile(manifest).evaluations // (self.every or 1)
            for one in set(requests)
        )
        wanted = most * min(len(requests), _AT_ONCE)
        if wanted > _MOST_FRAMES:
            raise InputError(
                f"the frames of the animation would take {wanted / 1e9:.0f} GB of memory; "
                f"take fewer, with --every {self._every_for(wanted)}"
            )

    def _every_for(self, wanted: float) -> int:
        return int((self.every or 1) * wanted / _MOST_FRAMES) + 1


watch_options = Section(
    "Watching",
    click.option(
        "--gif",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="The run as an animation, a frame for each step: .gif, .webp, or .png; with --interpolate its "
        "pictures are the frames.",
    ),
    click.option(
        "--frames-dir",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="The same frames as PNGs, step-001.png and so on, in a new folder.",
    ),
    click.option(
        "--preview",
        type=click.Path(path_type=Path),
        metavar="PNG",
        help="A file that shows the picture as it comes about: rewritten while it runs.",
    ),
    click.option(
        "--every",
        type=click.IntRange(1),
        metavar="K",
        help="A frame for each K evaluations of the network.  [default: 1]",
    ),
    click.option(
        "--decoded/--projected",
        default=None,
        help="Frames by the VAE, or by a quick map from latents to RGB.  "
        "[default: decoded; --preview above 128x128 projected]",
    ),
    name="watch",
    gathered=WatchOptions,
)
