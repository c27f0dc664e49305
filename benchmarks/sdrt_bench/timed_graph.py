"""Graphs that tell how long they run: a backend around a backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from sdrt.backends import Array, Backend, Buffer, Device, Runtime
from sdrt.bundle import Bundle
from sdrt.saved_graphs import SavedGraph


class TimedGraph:
    """A backend that adds up how long its runs take. `runs`, in seconds, since it was last cleared.

    device: waited for after each run, where work is only queued. after: is told the buffers after each run.
    """

    def __init__(
        self,
        graph: Backend,
        device: Device,
        after: Callable[[Mapping[str, Buffer]], None] = lambda buffers: None,
    ) -> None:
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self.runs: list[float] = []
        self._graph, self._device, self._after = graph, device, after
        self._buffers: Mapping[str, Buffer] = {}

    def bind(self, buffers: Mapping[str, Buffer]) -> None:
        """As the graph's own."""
        self._buffers = buffers
        self._graph.bind(buffers)

    def run(self) -> None:
        """As the graph's own, timed."""
        started = time.perf_counter()
        self._graph.run()
        self._device.synchronize()
        self.runs.append(time.perf_counter() - started)
        self._after(self._buffers)

    def close(self) -> None:
        """As the graph's own."""
        self._graph.close()


class TimedRuntime:
    """A runtime whose graphs are timed. graphs: by file; a graph loaded twice stands there twice.

    after: is told file and buffers after each run.
    """

    def __init__(
        self,
        runtime: Runtime,
        after: Callable[[Path, Mapping[str, Buffer]], None] = lambda graph, buffers: None,
    ) -> None:
        self.name, self.device = runtime.name, runtime.device
        self.graphs: dict[Path, list[TimedGraph]] = {}
        self._runtime, self._after = runtime, after

    def for_bundle(self, bundle: Bundle, *, trust_engines: bool = False) -> TimedRuntime:
        """Itself, around the one for this bundle."""
        self._runtime = self._runtime.for_bundle(bundle, trust_engines=trust_engines)
        return self

    def pictures_at_once(self, width: int, height: int) -> int | None:
        """As the runtime's own."""
        return self._runtime.pictures_at_once(width, height)

    def load(
        self,
        graph: Path,
        *,
        small: bool = False,
        exact: bool = False,
        overrides: Mapping[str, Array] = MappingProxyType({}),
        saved: SavedGraph | None = None,
    ) -> TimedGraph:
        """As the runtime's own."""
        loaded = self._runtime.load(graph, small=small, exact=exact, overrides=overrides, saved=saved)
        timed = TimedGraph(loaded, self.device, lambda buffers: self._after(graph, buffers))
        self.graphs.setdefault(graph, []).append(timed)
        return timed

    def clear(self) -> None:
        """Forget all runs."""
        for graphs in self.graphs.values():
            for graph in graphs:
                graph.runs.clear()

    def runs(self, graph: Path) -> list[float]:
        """Seconds of each run of a file's graphs."""
        return [seconds for one in self.graphs.get(graph, ()) for seconds in one.runs]
