"""Run a command that the kernel kills, with SIGSYS, at its first attempt to open a network socket.

python no_network.py COMMAND ...

A seccomp filter (Linux, https://docs.kernel.org/userspace-api/seccomp_filter.html) kills the process at
socket(2) with any family but AF_UNIX, and tells it that there is no io_uring, which opens sockets too. Native
code of any thread is seen as well as Python's, and processes that the command starts inherit the filter.
Privileges are not needed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
import struct
import sys

# machine -> (AUDIT_ARCH of linux/audit.h, number of socket(2))
_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
_IO_URING_SETUP = 425
AVAILABLE = sys.platform == "linux" and platform.machine() in _MACHINES
KILLED = -signal.SIGSYS if AVAILABLE else 0  # the return code of a process that tried

# linux/bpf_common.h and linux/seccomp.h
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL_PROCESS, _NO_SYSTEM_CALL = 0x7FFF0000, 0x80000000, 0x00050000 | 38
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def forbid() -> None:
    """Install the filter for this process and its descendants, for good."""
    architecture, socket_number = _MACHINES[platform.machine()]
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 0, 7, architecture),  # another one: kill
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 4, 0, _IO_URING_SETUP),
        (_EQUAL, 0, 2, socket_number),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 0, 2, int(socket.AF_UNIX)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _NO_SYSTEM_CALL),
        (_RETURN, 0, 0, _KILL_PROCESS),
    ]
    instructions = b"".join(struct.pack("HBBI", *one) for one in program)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(_Program(len(program), instructions)), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


if __name__ == "__main__":
    forbid()
    os.execvp(sys.argv[1], sys.argv[1:])
