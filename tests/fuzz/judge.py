"""Whether reading an input ended as it should: in a result, or in a refusal of one printable line.

Within 2 s of processor time, which unlike the clock do not depend on what else the machine does, with less
than 500 MB of memory more, and without a look or a hand outside the working folder, as far as Python's audit
events tell. What native code does to files is seen by `Outside`, at the end of a campaign.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import sysconfig
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from unicodedata import category
from unittest import mock

import click
from fuzz_target import REFUSALS, Target

import sdrt.cli
from sdrt.errors import SdrtError

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, directions of text, surrogates, ends of lines
_JOINERS = "\u200c\u200d"
UNPRINTABLE = "what is printed is no printable line"
SECONDS = 2.0
MEGABYTES = 500
_ADDRESS_SPACE = 2 << 30  # beyond what is in use at the start: a stop before the machine is out of memory
_PACKAGE = str(Path(sdrt.__file__).parent)
_READABLE = (
    *(str(Path(__file__).resolve().parents[2]), sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib")),
    *("/proc/self", "/sys", "/usr/share", "/dev/null", "/dev/urandom", "/etc/localtime", "/etc/mime.types"),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# audit event -> how many of its arguments are names
_CHANGES = {
    **dict.fromkeys(
        ("os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown", "os.utime"), 1
    ),
    **dict.fromkeys(("os.rename", "os.link", "os.symlink"), 2),
    "shutil.rmtree": 1,
}
_NEVER = (
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile", "subprocess.Popen", "socket.connect",
    "socket.getaddrinfo", "socket.sendto", "ctypes.dlopen",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """escape: empty if all is well, else what happened and where, by which equal ones are told.

    said: the refusal, or the whole of what went wrong. refused: it is no valid input.
    """

    escape: str = ""
    said: str = ""
    refused: bool = False
    seconds: float = 0.0


class TooSlowError(BaseException):
    """Raised where the time ran out."""


class Judge:
    """Of this process, whose working folder is the one that may be touched."""

    def __init__(self) -> None:
        self._folder = str(Path.cwd())
        self._reads_anywhere = False
        self._watching = False
        self._touched: list[str] = []
        limit = _status("VmSize") * 1024 + _ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        signal.signal(signal.SIGPROF, _too_slow)
        sys.addaudithook(self._audit)

    def judge(self, target: Target, content: bytes) -> Verdict:
        """Read one input."""
        path = target.path(Path())
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        self._touched.clear()
        self._reads_anywhere = target.reads_anywhere
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        before, started = _status("VmRSS"), time.process_time()
        escape = said = ""
        refused = False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                self._watching = True
                try:
                    target.read(path)
                finally:
                    self._watching = False
                    signal.setitimer(signal.ITIMER_PROF, 0)
        except REFUSALS as error:
            refused, said = True, _printed(error)
            if not is_error_line(said):
                escape = UNPRINTABLE
                said = f"{type(error).__name__}, {_place(error)}: {said!r}"
        except click.exceptions.Exit:
            pass
        except KeyboardInterrupt:
            raise
        except TooSlowError as error:
            escape = f"more than {SECONDS:g} s, {_place(error)}"
        except BaseException as error:  # also PanicException of pyo3, which is no Exception
            escape = f"{type(error).__name__}, {_place(error)}"
            said = _shortened("".join(traceback.format_exception(error)))
        seconds = time.process_time() - started
        grown = (_status("VmHWM") - before) / 1024
        if not escape and grown > MEGABYTES:
            escape, said = f"more than {MEGABYTES} MB", f"{grown:.0f} MB"
        if not escape and self._touched:
            escape, said = f"{self._touched[0].partition(' ')[0]} outside of the folder", self._touched[0]
        return Verdict(escape=escape, said=said, refused=refused, seconds=seconds)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        if event == "open":
            name, mode, flags = arguments
            writes = bool((flags or 0) & _WRITING) or bool(set(mode or "") & set("wax+"))
            if isinstance(name, str | bytes) and not self._allowed(os.fsdecode(name), writes):
                self._touched.append(f"{'write' if writes else 'read'} {os.fsdecode(name)!r}")
        elif event in _CHANGES:
            for name in arguments[: _CHANGES[event]]:
                if isinstance(name, str | bytes) and not self._allowed(os.fsdecode(name), True):
                    self._touched.append(f"{event} {os.fsdecode(name)!r}")
        elif event in _NEVER:
            self._touched.append(f"{event} {arguments!r}")

    def _allowed(self, name: str, writes: bool) -> bool:
        try:
            path = str(Path(name).resolve())
        except (OSError, ValueError):  # no file can be called so
            return True
        if _within(path, self._folder):
            return True
        return not writes and (self._reads_anywhere or any(_within(path, one) for one in _READABLE))


class Outside:
    """A folder beside the working one, with a file that inputs name; whatever changes in it is an escape."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        (parent / "outside").mkdir()
        (parent / "outside" / "canary").write_text("{}")
        self._before = self._state()

    def changed(self) -> bool:
        """Whether anything outside of the working folder is not as it was."""
        return self._state() != self._before

    def _state(self) -> list[tuple[str, bytes]]:
        found = []
        for path in sorted(self._parent.rglob("*")):
            if path.is_file() and not path.is_relative_to(self._parent / "work"):
                found.append((str(path), path.read_bytes()))
        return [*found, *((one.name, b"") for one in self._parent.iterdir())]


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def is_error_line(printed: str) -> bool:
    """Whether it is one line, of an error that says something, with nothing in it that a terminal obeys.

    Joiners are part of words and emoji; what Unicode has not assigned yet shows as a box.
    """
    line = printed.removeprefix("Error: ").removesuffix("\n")
    obeyed = any(category(one) in _OBEYED and one not in _JOINERS for one in line)
    return printed == f"Error: {line}\n" and bool(line.strip()) and not obeyed


class _Terminal(io.StringIO):
    """click leaves colours and the like out of what goes elsewhere."""

    def isatty(self) -> bool:
        return True


def _printed(error: SdrtError | click.ClickException) -> str:
    """What the command line prints of it to a terminal."""
    with (
        contextlib.redirect_stderr(_Terminal()) as stream,
        contextlib.redirect_stdout(io.StringIO()),
        mock.patch.object(sys, "argv", ["sdrt"]),
        mock.patch.object(sdrt.cli.cli, "main", side_effect=error),
        contextlib.suppress(SystemExit),
    ):
        sdrt.cli.main()
    return stream.getvalue()


def _place(error: BaseException) -> str:
    """The innermost function of sdrt, else of whatever."""
    frames = traceback.extract_tb(error.__traceback__)
    others = [frame for frame in frames if frame.filename != __file__] or frames
    ours = [frame for frame in frames if frame.filename.startswith(_PACKAGE)] or others
    return f"{Path(ours[-1].filename).name}:{ours[-1].name}"


def _shortened(text: str) -> str:
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) < 3_000 else f"{text[:1_000]}\n...\n{text[-1_500:]}"


def _too_slow(_: int, __: FrameType | None) -> None:
    raise TooSlowError


def _status(key: str) -> int:
    """KiB."""
    with Path("/proc/self/status").open("rb") as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith(key.encode()))
