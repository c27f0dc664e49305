"""Graphs that tell how long they run: a backend around a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sdrt.backends import Array, Backend, Buffer, Device, Runtime
from sdrt.bundle import Bundle
from sdrt.saved_graphs import SavedGraph


class TimedGraph:
    """A backend that tells how long its runs take.

    device: its clock is read before and after each run, without waiting for it: a device that is waited for
    stands still until the host has queued what follows. after: is told the buffers after each run.
    """

    def __init__(
        self,
        graph: Backend,
        device: Device,
        after: Callable[[Mapping[str, Buffer]], None] = lambda buffers: None,
    ) -> None:
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self._moments: list[tuple[Any, Any]] = []
        self._graph, self._device, self._after = graph, device, after
        self._buffers: Mapping[str, Buffer] = {}

    def bind(self, buffers: Mapping[str, Buffer]) -> None:
        """As the graph's own."""
        self._buffers = buffers
        self._graph.bind(buffers)

    def run(self) -> None:
        """As the graph's own, timed."""
        started = self._device.mark()
        self._graph.run()
        self._moments.append((started, self._device.mark()))
        self._after(self._buffers)

    def runs(self) -> list[float]:
        """Seconds of each run since the last time that they were forgotten."""
        self._device.synchronize()
        return [self._device.seconds(started, ended) for started, ended in self._moments]

    def forget(self) -> None:
        """Count no run so far."""
        self._moments.clear()

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
                graph.forget()

    def runs(self, graph: Path) -> list[float]:
        """Seconds of each run of a file's graphs."""
        return [seconds for one in self.graphs.get(graph, ()) for seconds in one.runs()]
