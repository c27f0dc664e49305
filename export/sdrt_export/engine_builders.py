"""What `--engine` builds with: builders by name, imported only when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdrt.errors import UnknownNameError

if TYPE_CHECKING:
    from sdrt.engines import EngineKind

    from .engines import EngineBuilder

BUILDERS: Mapping[EngineKind, str] = {
    "tensorrt": "sdrt_export.tensorrt_builder",
    "aoti": "sdrt_export.aoti_builder",
}


@dataclass(frozen=True, kw_only=True)
class BuilderOptions:
    """How to build; what a kind of engines does not have is refused by its builder.

    refittable: weights can be replaced in the built engine, as LoRA does. level: how long the builder looks
    for something quicker, 0 to 5; None is its default. memory_limit: what a layer may use of the GPU's memory
    to be quicker, in GB; None is all of it.
    """

    refittable: bool = False
    level: int | None = None
    memory_limit: float | None = None


def open_builder(kind: EngineKind, options: BuilderOptions) -> EngineBuilder:
    """The builder of one kind of engines, for this machine.

    Raises MissingExtraError if its library is not installed, BackendUnavailableError if its device is not
    there.
    """
    if kind not in BUILDERS:
        raise UnknownNameError("engine", kind, BUILDERS)
    builder: EngineBuilder = importlib.import_module(BUILDERS[kind]).Builder(options)
    return builder
