"""Jobs to files: pictures are made and written one after the other, and those that are there are left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdrt.errors import SdrtError
from sdrt.image_files import QUALITY, save_image
from sdrt.many.finished import FinishedPictures
from sdrt.metadata import OWN

if TYPE_CHECKING:
    from sdrt.many.contact_sheet import ContactSheet
    from sdrt.many.jobs import Job
    from sdrt.pictures import Picture, Progress
    from sdrt.pipeline import Pipeline
    from sdrt.request import Request
    from sdrt.watcher import Watcher


@dataclass(frozen=True, kw_only=True)
class Made:
    """A picture and its file. was_there: an earlier run made it."""

    job: Job
    path: Path
    seed: int
    was_there: bool = False


class JobRun:
    """The pictures of some jobs. resume: look for files of an earlier run. sheet: all are laid on it, too.

    watcher: is told of every step and picture. quality: of JPEG and WebP. first: the first picture made.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        jobs: Sequence[Job],
        *,
        resume: bool,
        sheet: ContactSheet | None,
        watcher: Watcher,
        quality: int = QUALITY,
    ) -> None:
        self.pipeline = pipeline
        self.made: list[Made] = []
        self.first: Picture | None = None
        self._quality = quality
        self._jobs = jobs
        self._sheet = sheet
        self._resume = resume
        self.watcher = watcher
        self._there = self._find() if resume else {}

    @property
    def requests(self) -> list[Request]:
        """Of the pictures that are still to be made."""
        return [job.request for index, job in enumerate(self._jobs) if index not in self._there]

    def paths(self, on_step: Callable[[Progress], None]) -> Iterator[Path]:
        """Make and write what is not there, and yield where each picture is, in the order of the jobs."""
        pictures = self.pipeline.run(self.requests, self.watcher.beside(on_step))
        for index, job in enumerate(self._jobs):
            made = self._there.get(index)
            if made is None:
                picture = next(pictures)
                self.first = self.first or picture
                made = Made(job=job, path=self._save(picture, job.path), seed=picture.request.seed)
                self.watcher.finish(picture)
            else:
                self.watcher.pass_over(made.path)
            if self._sheet is not None:
                # as JPEG and WebP have it, so that the sheet is the same if a later run finds the file
                self._sheet.place_file(index, made.path)
            self.made.append(made)
            yield made.path

    def save_sheet(self, path: Path) -> Path | None:
        """Write it, never over another file, and not if it is there already; None if there is none."""
        import numpy as np

        if self._sheet is None:
            return None
        if self._resume and self._sheet.is_in(path):
            return path
        return save_image(np.asarray(self._sheet.image), path, {})

    def _find(self) -> dict[int, Made]:
        files, found = FinishedPictures(), {}
        for index, job in enumerate(self._jobs):
            own = self.pipeline.texts(job.request)[OWN]
            file = files.take(job.path, own, any_seed=job.any_seed)
            if file is not None:
                found[index] = Made(job=job, path=file.path, seed=file.seed, was_there=True)
        return found

    def _save(self, picture: Picture, path: Path) -> Path:
        """Folders that the pattern names are made; the one above them was there when the run began."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SdrtError(f"cannot make the folder {path.parent}: {error.strerror}") from None
        return picture.save(path, self._quality)
