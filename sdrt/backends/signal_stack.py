"""The stack that a thread's signal handlers run on, which OpenVINO changes and does not put back.

Its CPU plugin registers an alternate stack for the thread that loads it; when it is unloaded, it frees that
and registers what was there before, which may be the freed stack of another plugin. The next signal, Ctrl-C
as much as SIGTERM, then ends the process with a segmentation fault, since Python's handlers run on the
alternate stack (seen with OpenVINO 2026.4.1 on Linux, after two runtimes were closed).
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class SignalStack(ctypes.Structure):
    """`stack_t` of Linux's signal.h."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> SignalStack | None:
    """This thread's alternate stack; None where the system is not Linux."""
    if sys.platform != "linux":
        return None
    stack = SignalStack()
    return stack if ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0 else None


@contextlib.contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Put this thread's alternate stack back to what it was before."""
    before = signal_stack()
    try:
        yield
    finally:
        if before is not None:
            ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)
