"""What `--engine` builds with: builders by name, imported only when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from sdrt.engines import EngineKind
from sdrt.errors import UnknownNameError

from .engines import EngineBuilder

BUILDERS: Mapping[EngineKind, str] = {}


@dataclass(frozen=True, kw_only=True)
class BuilderOptions:
    """How to build; what a kind of engines does not have is refused by its builder.

    refittable: weights can be replaced in the built engine, as LoRA does.
    """

    refittable: bool = False


def open_builder(kind: EngineKind, options: BuilderOptions) -> EngineBuilder:
    """The builder of one kind of engines, for this machine.

    Raises MissingExtraError if its library is not installed, BackendUnavailableError if its device is not
    there.
    """
    if kind not in BUILDERS:
        raise UnknownNameError("engine", kind, BUILDERS)
    builder: EngineBuilder = importlib.import_module(BUILDERS[kind]).Builder(options)
    return builder
