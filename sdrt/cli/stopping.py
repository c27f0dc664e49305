"""Ctrl-C, SIGTERM and SIGHUP: the command stops at the next step, cleans up and says nothing."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

_SIGNALS = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if (number := getattr(signal, name, None)) is not None  # Windows has no SIGHUP
)
# seconds in which further signals change nothing, so that what cleans up is not interrupted itself
_CLEANING_UP = 2.0


class Stopped(KeyboardInterrupt):
    """What a signal raises.

    Python ends a process by SIGINT, whatever its exit code, once a KeyboardInterrupt has left code that was
    compiled from a text, as dataclasses do. It compares classes, and leaves subclasses alone.
    """


class Stopping:
    """Whether the command was asked to stop.

    number: of the first signal, None if there was none. is_final: whether the process ends now.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.is_final = False
        self._since = 0.0

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as a shell reports it; of SIGINT where none is known."""
        return 128 + (signal.SIGINT if self.number is None else self.number)

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Raise Stopped; called as a signal's handler."""
        now = time.monotonic()
        if self.is_final or (self.number is not None and now - self._since < _CLEANING_UP):
            return
        self.number, self._since = self.number or number, now
        raise Stopped

    def check(self) -> None:
        """Raise Stopped if a signal came: libraries drop what it raised, or make errors of it."""
        if self.number is not None:
            raise Stopped


def check_stopped() -> None:
    """The same within a command; to be called between its steps."""
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if isinstance(handler, Stopping):
            return handler.check()


@contextlib.contextmanager
def stopping() -> Iterator[Stopping]:
    """Handle the signals that end a command; those that are ignored, as nohup does, stay ignored.

    Within another `stopping` it is that one. When the process ends because of a signal, further ones are
    ignored: Python restores the default, which kills, while it still shuts down.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    outer = next((handler for handler in before.values() if isinstance(handler, Stopping)), None)
    if outer is not None:
        yield outer
        return
    asked = Stopping()
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        before = {}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, asked)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if asked.is_final else handler)
