"""Who watches a run: keeps frames for animations, writes them to a folder, shows the latest."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sdrt.animation import FORMATS, save_animation
from sdrt.frame_files import FrameFolder, PreviewFile
from sdrt.image_files import check_place
from sdrt.image_reading import opened_image

if TYPE_CHECKING:
    from sdrt.pictures import Picture, Progress
    from sdrt.request import Request

Pixels = NDArray[np.uint8]


@dataclass(eq=False)
class _Making:
    """A picture in the making: its number in the run, from 0, its evaluations, and its frames so far."""

    number: int
    evaluations: int
    frames: list[Pixels] = field(default_factory=list)
    finished: Pixels | None = None


class Watcher:
    """Told of every step and of every picture of a run.

    requests: of the run, one for each picture. animation, folder, preview: where frames go; None: nowhere.
    in_one: the animation shows finished pictures, one after the other, and not how each came about.
    every: how many evaluations make a frame. project_frames, project_previews: by the map from latents to RGB
    rather than by the VAE. written: the animations.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        *,
        animation: Path | None = None,
        in_one: bool = False,
        folder: FrameFolder | None = None,
        preview: PreviewFile | None = None,
        every: int = 1,
        project_frames: bool = False,
        project_previews: bool = True,
    ) -> None:
        self._animation, self._folder, self._preview = animation, folder, preview
        self._in_one = in_one
        self._pictures: list[Pixels] = []
        self._every = every
        self._project_frames, self._project_previews = project_frames, project_previews
        # equal requests make equal pictures: which of them is which makes no difference
        self._numbers: defaultdict[Request, deque[int]] = defaultdict(deque)
        for number, request in enumerate(requests):
            self._numbers[request].append(number)
        self._making: defaultdict[Request, deque[_Making]] = defaultdict(deque)
        self._batch: list[_Making] = []
        self.written: list[Path] = []

    def check(self) -> None:
        """Whether all that is to be written can be; asked before any work is done. Raises InputError."""
        if self._animation is not None:
            check_place(self._animation, suffixes=tuple(FORMATS), option="--gif")
        for place in (self._folder, self._preview):
            if place is not None:
                place.check()

    def beside(self, on_step: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """What to give `Pipeline.run`: it tells both."""

        def both(at: Progress) -> None:
            on_step(at)
            self.step(at)

        return both

    def step(self, at: Progress) -> None:
        """Take frames of a batch. Its last evaluation makes none: the picture itself is about to come."""
        if at.done == 0:
            self._begin(at)
        elif at.done < at.evaluations and at.done % self._every == 0:
            frames = self._take_frames(at)
            if self._preview is not None and self._preview.is_due:
                if not frames or self._project_previews != self._project_frames:
                    frames = _frames(at, project=self._project_previews)
                self._preview.write(frames, f"evaluation {at.done} of {at.evaluations}")

    def finish(self, picture: Picture) -> None:
        """Write what is to be written once a picture is there."""
        made = self._making[picture.request].popleft()
        made.finished = picture.pixels
        if self._animates_steps:
            self._animate([*made.frames, picture.pixels], picture.texts)
            made.frames.clear()
        elif self._in_one:
            self._pictures.append(picture.pixels)
        if self._folder is not None:
            self._folder.write(made.number, made.evaluations, picture.pixels)
        if self._preview is not None:
            finished = [one.finished for one in self._batch if one.finished is not None]
            if len(finished) == len(self._batch):
                self._preview.write(finished, "finished")

    def pass_over(self, file: Path) -> None:
        """Take a picture that an earlier run made. Raises InputError if it cannot be read."""
        if self._in_one:
            with opened_image(file) as image:
                self._pictures.append(np.asarray(image.convert("RGB")))

    def end(self) -> None:
        """Write what is to be written when all pictures are there."""
        if self._pictures:
            self._animate(self._pictures, {})

    @property
    def _animates_steps(self) -> bool:
        return self._animation is not None and not self._in_one

    def _animate(self, frames: Sequence[Pixels], texts: Mapping[str, str]) -> None:
        assert self._animation is not None
        self.written.append(save_animation(frames, self._animation, texts=texts))

    def _begin(self, at: Progress) -> None:
        self._batch = [_Making(self._numbers[one].popleft(), at.evaluations) for one in at.requests]
        for request, making in zip(at.requests, self._batch, strict=True):
            self._making[request].append(making)

    def _take_frames(self, at: Progress) -> list[Pixels]:
        """Those for animations and folders; none if there are neither."""
        if not self._animates_steps and self._folder is None:
            return []
        frames = _frames(at, project=self._project_frames)
        for making, frame in zip(self._batch, frames, strict=True):
            if self._animates_steps:
                making.frames.append(frame)
            if self._folder is not None:
                self._folder.write(making.number, at.done, frame)
        return frames


def _frames(at: Progress, *, project: bool) -> list[Pixels]:
    """[H, W, 3] of each picture of the batch."""
    if not project:
        return at.predictions()
    from PIL import Image

    size = at.requests[0].width, at.requests[0].height
    enlarged = [Image.fromarray(one).resize(size, Image.Resampling.BICUBIC) for one in at.previews()]
    return [np.asarray(image) for image in enlarged]
