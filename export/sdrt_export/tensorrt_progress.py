"""How far TensorRT's builder is, told in lines; and the way to stop it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from .engines import Progress

if TYPE_CHECKING:
    import tensorrt as trt

SECONDS = 5.0  # between two lines: a build has thousands of steps and takes minutes


class BuildProgress:
    """Tells `progress` where the build of one graph is. TensorRT calls it from threads of its own.

    monitor: what TensorRT is given.
    """

    def __init__(self, graph: str, progress: Progress) -> None:
        import tensorrt as trt

        told = self

        class Monitor(trt.IProgressMonitor):
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                told._start(phase_name, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                return told._step(phase_name, step)

            def phase_finish(self, phase_name: str) -> None:
                told._finish(phase_name)

        self.monitor: trt.IProgressMonitor = Monitor()
        self._graph, self._progress = graph, progress
        self._steps: dict[str, int] = {}  # of the phases that are going on
        self._lock = threading.Lock()
        self._said = time.monotonic()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let the build end at its next step."""
        self._stopped.set()

    def _start(self, phase: str, steps: int) -> None:
        with self._lock:
            self._steps[phase] = steps

    def _step(self, phase: str, step: int) -> bool:
        with self._lock:
            now = time.monotonic()
            if now - self._said >= SECONDS:
                self._said = now
                try:
                    self._progress(f"{self._graph}: {phase}, {step + 1} of {self._steps.get(phase, '?')}")
                except KeyboardInterrupt:  # nothing may leave a thread of TensorRT's
                    self._stopped.set()
        return not self._stopped.is_set()

    def _finish(self, phase: str) -> None:
        with self._lock:
            self._steps.pop(phase, None)
