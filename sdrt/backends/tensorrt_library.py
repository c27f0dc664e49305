"""The TensorRT library: importing it, and hearing what it says.

What is used of it is alike in TensorRT 10.16 and 11; typings/tensorrt holds it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sdrt.backends.failures import one_line
from sdrt.errors import BackendUnavailableError, MissingExtraError

if TYPE_CHECKING:
    import tensorrt as trt

_REMEMBERED = 8  # of the last errors; what follows from the first is seldom news


def tensorrt_version() -> str:
    """Of the installed TensorRT, as in `10.16.1.11`.

    Raises MissingExtraError if it is not installed, BackendUnavailableError if it does not load.
    """
    try:
        import tensorrt as trt
    except ModuleNotFoundError:
        raise MissingExtraError("tensorrt", "tensorrt") from None
    except ImportError as error:  # its libraries are packages of their own
        raise BackendUnavailableError(
            f"tensorrt does not load: {one_line(error)}; pip install --force-reinstall 'sdrt[tensorrt]'"
        ) from None
    return trt.__version__


class Complaints:
    """Errors that TensorRT logged. Its calls only say that they failed; the reason is in the log."""

    def __init__(self) -> None:
        import tensorrt as trt

        said: deque[str] = deque(maxlen=_REMEMBERED)
        errors = (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)

        class Log(trt.ILogger):
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
                if severity in errors:
                    said.append(msg)

        self.log: trt.ILogger = Log()
        self._said = said

    def take(self) -> str:
        """What was said since the last time, in one line."""
        line = one_line("; ".join(self._said)) or "no reason was given"
        self._said.clear()
        return line


def is_out_of_memory(said: str) -> bool:
    """Whether a complaint is about memory."""
    return "out of memory" in said.lower() or "outofmemory" in said.lower()
