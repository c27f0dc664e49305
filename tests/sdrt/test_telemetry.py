"""What leaves the machine, and what stays in a user's home: nothing but sdrt's own cache.

Each command runs with an empty home, none of this process's settings, and a kernel that kills it at the first
network socket of any thread, in Python or native code (`no_network.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import no_network
import pytest

import sdrt
import sdrt_bench
import sdrt_export
from sdrt import telemetry

pytestmark = pytest.mark.skipif(not no_network.AVAILABLE, reason="seccomp is Linux's")

PACKAGES = (sdrt, sdrt_export, sdrt_bench)
SOURCES = os.pathsep.join(str(Path(package.__path__[0]).parent) for package in PACKAGES)
GUARD = (sys.executable, str(Path(no_network.__file__)))
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str
    home: list[str]  # files and empty folders that it left


@pytest.fixture
def new_user(tmp_path):
    """Run this Python with these words as somebody who has just come to the machine."""
    home, work, temporary = (tmp_path / name for name in ("home", "work", "temporary"))
    for folder in (home, work, temporary):
        folder.mkdir()

    def run(*words, **settings):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "PYTHONPATH": SOURCES,
            **settings,
        }
        done = subprocess.run(
            [*GUARD, sys.executable, *map(str, words)],
            cwd=work, env=environment, capture_output=True, text=True, timeout=500,
        )  # fmt: skip
        left = [path for path in home.rglob("*") if path.is_file() or not any(path.iterdir())]
        names = sorted(path.relative_to(home).as_posix() for path in left)
        return Ended(done.returncode, done.stdout, done.stderr, names)

    return run


def only_own_cache(ended):
    assert ended.code == 0, f"{ended.code}: {ended.err}"
    return all(name.startswith(".cache/sdrt/") for name in ended.home)


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket(socket.AF_INET)",
        "import socket; socket.getaddrinfo('example.org', 443)",
        "import threading, socket; threading.Thread(target=socket.socket).start(); input()",
        "import ctypes; ctypes.CDLL(None).socket(16, 3, 0)",  # AF_NETLINK: what is there of networks
    ],
)
def test_the_guard_sees_an_attempt(new_user, code):
    """Without this the tests below could not fail."""
    assert new_user("-c", code).code == no_network.KILLED


def test_the_guard_lets_the_rest_pass(new_user):
    ended = new_user("-c", "import socket; socket.socketpair(); print(socket.gethostname() != '')")
    assert (ended.code, ended.out, ended.home) == (0, "True\n", [])


def test_generate(new_user):
    ended = new_user("-m", "sdrt", "generate", "a red star", "--steps", "2", "-o", "x.png")
    assert only_own_cache(ended), ended.home
    assert ended.home  # it did run: what it checked is remembered


@needs_openvino
def test_generate_with_openvino(new_user):
    ended = new_user(
        "-m", "sdrt", "generate", "a red star", "--steps", "2", "-o", "x.png", "--backend", "openvino:f32"
    )
    assert only_own_cache(ended), ended.home


def test_doctor(new_user):
    """It opens every backend."""
    ended = new_user("-m", "sdrt", "doctor")
    assert only_own_cache(ended), ended.home
    assert "onnxruntime" in ended.out


@needs_openvino
def test_a_peer_in_another_environment(new_user, tmp_path):
    """Its Python knows neither sdrt nor sdrt_bench before the peer's process is lent them."""
    bare = tmp_path / "python"
    packages = Path(find_spec("openvino").origin).parents[1]
    bare.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    code = """
import sys
from sdrt.bundle import DEMO
from sdrt_bench.peers import PeerStart
from sdrt_bench.peers.process import PeerProcess
start = PeerStart(runner="sdrt", precision="fp32", backend=sys.argv[2], model=str(DEMO))
with PeerProcess(start, sys.argv[1]) as peer:
    peer.load()
    print(*peer.versions)
"""
    for backend in ("onnxruntime", "openvino:f32"):
        ended = new_user("-c", code, bare, backend)
        assert only_own_cache(ended), ended.home
        assert backend.partition(":")[0] in ended.out


@pytest.fixture
def without_ipv6(tmp_path):
    """Settings for a Python without IPv6.

    urllib3 binds a socket to ::1 as it is imported, to learn whether there is IPv6; nothing is sent. The
    guard cannot tell that from the beginning of something worse.
    """
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import socket; socket.has_ipv6 = False\n")
    return {"PYTHONPATH": f"{SOURCES}{os.pathsep}{tmp_path / 'site'}"}


@pytest.mark.slow
def test_export(new_user, without_ipv6):
    ended = new_user("-m", "sdrt", "export", "demo", "-o", "exported", **without_ipv6)
    assert only_own_cache(ended), ended.home


@pytest.mark.slow
def test_the_peer_diffusers(new_user, without_ipv6):
    checkpoint = Path(sdrt_export.__path__[0]) / "demo" / "checkpoint"
    code = f"""
from sdrt_bench.peers import PeerStart
from sdrt_bench.peers.process import PeerProcess
start = PeerStart(runner="diffusers", precision="fp32", backend="", model={str(checkpoint)!r})
with PeerProcess(start) as peer:
    peer.load()
"""
    ended = new_user("-c", code, **without_ipv6)
    assert only_own_cache(ended), ended.home


@pytest.mark.parametrize("package", ["sdrt", "sdrt_export", "sdrt_bench"])
@pytest.mark.parametrize("choice", [{}, {name: "0" for name in telemetry.VARIABLES}], ids=["none", "on"])
def test_importing_any_package_disables_all_of_it(new_user, package, choice):
    code = f"""
import os, {package}
print({{name: os.environ.get(name) for name in {sorted(telemetry.VARIABLES)}}})
try:
    import {telemetry.BLOCKED}
except ImportError:
    print("not importable")
"""
    ended = new_user("-c", code, **choice)
    assert ended.out == f"{dict(sorted(telemetry.VARIABLES.items()))}\nnot importable\n"


def test_huggingface_hub_takes_it(new_user):
    pytest.importorskip("huggingface_hub")
    code = "import sdrt; from huggingface_hub import constants as c; print(c.HF_HUB_DISABLE_TELEMETRY)"
    assert new_user("-c", code, HF_HUB_DISABLE_TELEMETRY="0").out == "True\n"


def test_other_settings_are_left_alone(new_user):
    code = "import os; old = dict(os.environ); import sdrt; print(*dict(os.environ.items() - old.items()))"
    ended = new_user("-c", code, HF_HUB_OFFLINE="0")
    assert set(ended.out.split()) == set(telemetry.VARIABLES)
