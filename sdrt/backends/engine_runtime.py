"""What backends that run engines have in common: an engine is found by its graph, and chosen by shapes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, Self

from sdrt import graphs
from sdrt.backends.protocol import Array, Buffer, Device
from sdrt.bundle import Bundle
from sdrt.engines import Engine, EngineFolder, EngineKind, bundle_graph
from sdrt.errors import EngineError, InputError
from sdrt.profiles import Profile
from sdrt.saved_graphs import SavedGraph


class LoadedEngine(Protocol):
    """One engine in memory; `bind`, `run` and `close` are those of a backend."""

    def bind(self, buffers: Mapping[str, Buffer]) -> None:
        """Use these buffers in every later `run`."""
        ...

    def run(self) -> None:
        """Queue one execution."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


class EngineRuntime(ABC):
    """Loads the engines of one bundle for one architecture and one version of their library."""

    kind: EngineKind

    def __init__(self, name: str, device: Device, architecture: str, version: str) -> None:
        self.name = name
        self.device = device
        self._architecture = architecture
        self._version = version
        self._bundle: Bundle | None = None
        self._trusted = False
        self._unets: list[Profile] = []

    @abstractmethod
    def open(self, engine: Engine, path: Path, overrides: Mapping[str, Array]) -> LoadedEngine:
        """Load one engine. overrides: initializers of its graph to replace, by name.

        Raises EngineError if the library refuses it.
        """

    def for_bundle(self, bundle: Bundle, *, trust_engines: bool = False) -> Self:
        """Take engines from this bundle's folder from now on."""
        self._bundle, self._trusted = bundle, trust_engines
        return self

    def pictures_at_once(self, width: int, height: int) -> int | None:
        """The most that the engines of the U-Net, once it is loaded, make of this size in one batch.

        Raises InputError naming the sizes that there are engines for if this is none of them.
        """
        fit = [one.pictures.max for one in self._unets if one.makes(width, height)]
        if not fit:
            folder = self._folder()
            sizes = dict.fromkeys(f"{one.width}x{one.height}" for one in self._unets)
            raise InputError(
                f"no {self.kind} engine of {folder.bundle} makes {width}x{height}, only {', '.join(sizes)}; "
                f"ask for that, or {folder.mend} --width {width} --height {height}"
            )
        return max(fit)

    def load(
        self,
        graph: Path,
        *,
        small: bool = False,
        exact: bool = False,
        overrides: Mapping[str, Array] = MappingProxyType({}),
        saved: SavedGraph | None = None,
    ) -> EngineGraph:
        """The engines of one graph; small, exact and saved make no difference.

        Raises EngineError if there are none, or none that may be loaded; BundleError if one is damaged.
        """
        folder = self._folder()
        assert self._bundle is not None
        name, digest = bundle_graph(self._bundle, graph, graphs.FOLDER)
        found = folder.find(name, digest, trusted=self._trusted)
        if name == "unet":
            self._unets = [engine.profile for engine, _ in found]
        return EngineGraph(self, folder, found, overrides)

    def _folder(self) -> EngineFolder:
        if self._bundle is None:
            raise EngineError(f"the {self.name} backend runs engines of a bundle; call for_bundle first")
        return EngineFolder(
            bundle=self._bundle.path,
            kind=self.kind,
            architecture=self._architecture,
            version=self._version,
        )


class EngineGraph:
    """One graph as its engines, one for each profile. An engine is loaded when its shapes are first bound."""

    def __init__(
        self,
        runtime: EngineRuntime,
        folder: EngineFolder,
        engines: Sequence[tuple[Engine, Path]],
        overrides: Mapping[str, Array],
    ) -> None:
        self.inputs, self.outputs = engines[0][0].signature
        self._runtime, self._folder = runtime, folder
        self._engines, self._overrides = engines, overrides
        self._loaded: dict[Path, LoadedEngine] = {}
        self._bound: LoadedEngine | None = None
        if len(engines) == 1:  # no choice to wait for
            self._load(*engines[0])

    def bind(self, buffers: Mapping[str, Buffer]) -> None:
        """Use the engine that has the buffers' shapes and the fewest others.

        Raises InputError naming the profiles that are there if there is none.
        """
        shapes = {name: buffers[name].shape for name in self.inputs}
        fits = next((one for one in self._engines if one[0].takes(shapes)), None)
        if fits is None:
            raise InputError(self._no_profile(shapes))
        self._bound = self._load(*fits)
        self._bound.bind(buffers)

    def run(self) -> None:
        """Queue one execution of the engine that is bound."""
        assert self._bound is not None, "bind first"
        self._bound.run()

    def close(self) -> None:
        """Free all engines."""
        for loaded in self._loaded.values():
            loaded.close()
        self._loaded.clear()
        self._bound = None

    def _load(self, engine: Engine, path: Path) -> LoadedEngine:
        if path not in self._loaded:
            self._loaded[path] = self._runtime.open(engine, path, self._overrides)
        return self._loaded[path]

    def _no_profile(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        graph = self._engines[0][0].graph
        asked = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items() if shape)
        there = "; ".join(engine.profile.described for engine, _ in self._engines)
        return (
            f"no {self._folder.kind} engine of {graph} takes {asked}; they are for {there}: ask for that, or "
            f"{self._folder.mend} with another --batch or --chunks, or without --static"
        )
