"""What a run of many pictures is to make: settings with the names of their files, all checked beforehand."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdrt.batches import singles
from sdrt.errors import InputError
from sdrt.image_files import check_output, default_name
from sdrt.manifest import Manifest
from sdrt.many.axes import Axis
from sdrt.many.output_names import NamePattern
from sdrt.many.prompt_files import Line
from sdrt.many.setting_words import merged
from sdrt.request import MAX_COUNT, SEEDS, Request, resolve_request

MAX_RUN = 10_000


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Settings, keywords of `resolve_request`. where: they are from; columns: what else a name may say."""

    settings: Mapping[str, Any]
    where: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture and its file. any_seed: nobody asked for the seed that it has."""

    request: Request
    path: Path
    any_seed: bool


def ask_lines(lines: Iterable[Line], settings: Mapping[str, Any]) -> list[Asked]:
    """A line's settings go before those of all."""
    return [
        Asked(
            settings=merged(settings, line.settings),
            where=line.where,
            columns={"line": line.number, **line.columns},
        )
        for line in lines
    ]


def ask_cells(x: Axis | None, y: Axis | None, settings: Mapping[str, Any]) -> list[Asked]:
    """Every value of x with every one of y, row by row; all have one seed unless an axis is the seed.

    Raises InputError for more pictures than the limit, or two axes of one setting.
    """
    axes = [axis for axis in (y, x) if axis is not None]
    names = [axis.setting for axis in axes]
    if len(names) != len(set(names)):
        raise InputError(f"both axes are {names[0]}; take another option for one of them")
    if settings.get("count", 1) != 1:
        raise InputError("a comparison has one picture of each kind; for more take seeds, as in --y seed=1-4")
    width, height = (1 if axis is None else len(axis.values) for axis in (x, y))
    if settings.get("limits", True) and width * height > MAX_COUNT:
        raise InputError(
            f"{width} x {height} are {width * height} pictures, the limit is {MAX_COUNT}; "
            "lift the limit with --no-limits"
        )
    if settings.get("seed") in (None, -1):
        settings = {**settings, "seed": secrets.randbelow(SEEDS)}
    asked = []
    for row in range(height):
        for column in range(width):
            cell, columns, where = dict(settings), {}, []
            for called, axis, place in (("x", x, column), ("y", y, row)):
                if axis is not None:
                    cell = axis.applied(cell, place)
                    columns[called] = axis.labels[place]
                    where.append(f"{axis.setting}={axis.labels[place]}")
            asked.append(Asked(settings=cell, where=", ".join(where), columns=columns))
    return asked


def resolve_jobs(
    manifest: Manifest, asked: Sequence[Asked], output: Path | None
) -> tuple[list[Request], list[Job]]:
    """The request of each, and a job for each picture. Nothing is computed or written.

    output: a pattern of names; None: each is named after its prompt.
    Raises InputError, naming the line it is from, and if a file could not be written.
    """
    pattern = None if output is None else NamePattern(output)
    columns = {column: "" for one in asked for column in one.columns}
    if pattern is not None:
        pattern.check(columns)
    too_many = InputError(
        f"these are more than {MAX_RUN} pictures, the limit of a run; lift it with --no-limits"
    )
    limited = all(one.settings.get("limits", True) for one in asked)
    if limited and len(asked) > MAX_RUN:  # each is a picture at least; to check them would take seconds
        raise too_many
    requests: list[Request] = []
    jobs: list[Job] = []
    checked: set[Path] = set()
    folders: set[Path] = set()
    for one in asked:
        try:
            requests.append(resolve_request(manifest, **one.settings))
        except InputError as error:
            raise InputError(f"{one.where}: {error}" if one.where else str(error)) from None
        any_seed = one.settings.get("seed") in (None, -1)
        for request in singles(requests[-1]):
            said = {**vars(request), "index": len(jobs) + 1, "model": manifest.name}
            said |= {"prompt": request.title, **columns, **one.columns}
            path = Path(default_name(request.title)) if pattern is None else pattern.path(said)
            if path not in checked:
                _check(path, path.parent if pattern is None else pattern.folder, folders)
                checked.add(path)
            jobs.append(Job(request=request, path=path, any_seed=any_seed))
        if limited and len(jobs) > MAX_RUN:
            raise too_many
    return requests, jobs


def _check(path: Path, folder: Path, known: set[Path]) -> None:
    """Folders that fields name are made when a picture is written, the one above them must be there."""
    place = path if path.parent in known or path.parent.exists() else folder / path.name
    check_output(place, known_folders=known)
    known.add(place.parent)
