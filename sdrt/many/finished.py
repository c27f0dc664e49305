"""Pictures that an earlier run made: which files hold what is asked for again."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sdrt.errors import InputError
from sdrt.metadata import OUTCOME, OWN
from sdrt.metadata.image_texts import read_texts
from sdrt.strict_json import read_json

_NUMBERED = re.compile(r"(.+)-([1-9]\d{0,8})")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A file, and the seed of its picture."""

    path: Path
    seed: int


class FinishedPictures:
    """Files by what they say of how they were made. Each is found once: two equal pictures are two files."""

    def __init__(self) -> None:
        self._taken: set[Path] = set()
        self._folder = cache(_families)
        self._says = cache(_says)

    def take(self, path: Path, own: str, *, any_seed: bool = False) -> Finished | None:
        """The file, `path` or `path-1`, `-2` .., that is whole and was made as `own` says; None if none was.

        own: the JSON that sdrt.metadata has for a picture. any_seed: made with whatever seed.
        """
        wanted = json.loads(own)
        for file in self._folder(path.parent).get(path.name, ()):
            said = self._says(file)
            if file not in self._taken and said is not None and _same(said, wanted, any_seed=any_seed):
                self._taken.add(file)
                return Finished(path=file, seed=int(said.get("seed", 0)))
        return None


def _families(folder: Path) -> dict[str, list[Path]]:
    """The files that a picture of a name may have been written to: that name, then it with numbers."""
    found: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    if folder.is_dir():
        for file in folder.iterdir():
            found[file.name].append((0, file))
            if numbered := _NUMBERED.fullmatch(file.stem):
                found[numbered[1] + file.suffix].append((int(numbered[2]), file))
    return {name: [file for _, file in sorted(files)] for name, files in found.items()}


def _says(file: Path) -> dict[str, Any] | None:
    try:
        said = read_json(read_texts(file).texts.get(OWN, "null"), nul=True, constants=True)
    except (InputError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _same(said: dict[str, Any], wanted: dict[str, Any], *, any_seed: bool) -> bool:
    apart = {*OUTCOME, *(["seed"] if any_seed else [])}
    return all(said.get(key) == wanted.get(key) for key in {*said, *wanted} - apart)
