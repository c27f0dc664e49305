"""A kind of input: valid ones, how they are changed, and what reads them.

A reader returns, or raises an SdrtError or what click reports as one line; all else is found by `judge`.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import click
import mutators
from mutators import Mutate

from sdrt import manifest as manifests
from sdrt.bundle import DEMO
from sdrt.cli import cli
from sdrt.cli.model_options import ModelOptions
from sdrt.errors import SdrtError

MANIFEST = manifests.read(DEMO / manifests.FILE_NAME)
SETTINGS = {"width": 64, "height": 64, "steps": 4, "seed": 1}
REFUSALS = (SdrtError, click.ClickException)


@dataclass(frozen=True, kw_only=True)
class Target:
    """name: with the ending of its files, if there is one. seeds: valid inputs.

    mutate: by the structure of the input. read: takes the input in a file of the working folder.
    reads_anywhere: the input is the user's own, who may name files; a stranger's may not.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    mutate: Mutate
    read: Callable[[Path], object]
    reads_anywhere: bool = False

    @property
    def originals(self) -> list[bytes]:
        """The seeds, made once."""
        return _made(self.seeds)

    def case(self, random: Random) -> bytes:
        """One changed input, no larger than MOST unless the original is."""
        original = random.choice(self.originals)
        changed = original
        if random.random() < 0.75:
            changed = self.mutate(original, random)
        if changed is original or random.random() < 0.15:
            changed = mutators.bytes_(changed, random)
        return changed[: max(mutators.MOST, len(original))]

    def path(self, folder: Path) -> Path:
        """Where an input of this kind lies."""
        return folder / f"fuzzed{Path(self.name).suffix}"


@cache
def _made(make: Callable[[], list[bytes]]) -> list[bytes]:
    return make()


def attempt(*attempts: Callable[[], object]) -> None:
    """Run all; the first refusal is raised when each has had its turn."""
    refusal: Exception | None = None
    for attempt in attempts:
        try:
            attempt()
        except REFUSALS as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal


class Accepted(BaseException):
    """The command line has found nothing wrong, and would begin to compute."""


def _accept(*_: object) -> Any:
    raise Accepted


def command(*words: str, standard_input: bytes = b"") -> None:
    """Run the command line in this process until it would load a model."""
    stream = io.TextIOWrapper(io.BytesIO(standard_input), encoding="utf-8", errors="surrogateescape")
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        mock.patch.object(sys, "stdin", stream),
        mock.patch.object(ModelOptions, "load", _accept),
        contextlib.suppress(Accepted),
    ):
        cli.main(list(words), prog_name="sdrt", standalone_mode=False)
