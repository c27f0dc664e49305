"""Ctrl-C, readers that go away, and what is shown to somebody who watches."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from sdrt.cli.progress_bar import progress_bar
from sdrt.cli.stopping import stopping
from sdrt.request import resolve_request

pty = pytest.importorskip("pty")

SDRT = [sys.executable, "-m", "sdrt"]


def start(*args, **settings):
    # a test run in the background of a shell would hand its ignored SIGINT down
    restore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    return subprocess.Popen([*SDRT, *args], **restore, **settings)


class Terminal:
    """The other end of a terminal that a program has for its stderr."""

    def __init__(self):
        self._ours, self.theirs = pty.openpty()
        self.shown = b""

    def read_until(self, pattern, timeout=60):
        os.set_blocking(self._ours, False)
        end = time.monotonic() + timeout
        while not re.search(pattern, self.shown):
            assert time.monotonic() < end, self.shown
            with contextlib.suppress(BlockingIOError, OSError):
                self.shown += os.read(self._ours, 65536)
            time.sleep(0.01)


def test_interrupt_stops_within_a_step(tmp_path):
    terminal = Terminal()
    # eight pictures of 900 steps: an order of magnitude longer than it may take to stop
    args = ("generate", "a cat", "--steps", "900", "--no-limits", "-n", "8")
    with start(*args, cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal.theirs) as process:
        terminal.read_until(rb"\d it/s")
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        out, _ = process.communicate(timeout=60)
        took = time.monotonic() - asked
    assert process.returncode == 130
    assert took < 5
    assert out == b""
    assert list(tmp_path.iterdir()) == []
    assert b"Traceback" not in terminal.shown


def test_interrupt_between_pictures_leaves_whole_ones(tmp_path):
    with start(
        "generate",
        "a cat",
        "-n",
        "100",
        "-o",
        "x.png",
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert err.strip() == ""
    printed = [first.strip(), *rest.split()]
    there = sorted(path.name for path in tmp_path.iterdir())
    # the interrupt may fall between a picture's last byte and its name on stdout
    assert set(printed) <= set(there)
    assert len(printed) <= len(there) <= len(printed) + 1 < 100
    for name in there:
        assert name.endswith(".png")
        with Image.open(tmp_path / name) as image:
            image.load()


def test_interrupt_ends_the_loop_in_python(pipeline):
    request = {"steps": 50, "count": 1, "seed": 1}
    seen = []

    def on_step(at):
        seen.append(at.done)
        if at.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(pipeline.run(resolve_request(pipeline.manifest, "a cat", **request), on_step))
    assert seen == [0, 1, 2, 3]
    assert pipeline.generate("a cat", steps=1), "it can be used again"


@pytest.mark.parametrize(
    "args",
    [
        ("samplers", "euler", "--steps", "150", "--json"),
        ("--help",),
        ("info", "demo", "--json"),
        ("generate", "a cat", "--steps", "1"),
    ],
    ids=lambda args: args[0],
)
def test_closed_pipe_is_quiet(tmp_path, args):
    with start(*args, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=60)
    assert err == b""
    assert not list(tmp_path.glob(".*"))


def test_progress_on_a_terminal_and_paths_on_stdout(tmp_path):
    terminal = Terminal()
    args = (
        "generate",
        "a cat",
        "--seed",
        "5",
        "--steps",
        "15",
        "-n",
        "9",
        "-W",
        "64",
        "-H",
        "64",
        "-o",
        "x.png",
    )
    with start(*args, cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal.theirs) as process:
        terminal.read_until(rb"seed 5")
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.decode().split() == ["x.png", *(f"x-{i}.png" for i in range(1, 9))]
    assert re.search(rb"\d it/s", terminal.shown)
    assert b"pictures 1-8 of 9" in terminal.shown
    assert b"/15" in terminal.shown
    assert re.search(rb"\d s left", terminal.shown)
    # the summary names what was made and how long it took
    assert re.search(rb"15 steps of .*, guidance .*, seed 5, \d+\.\d\d s", terminal.shown)


def test_quiet_where_nobody_watches(run_sdrt):
    result = run_sdrt("generate", "a cat", "--steps", "1", "-o", "x.png")
    assert (result.out, result.err) == ("x.png\n", "")


class TestSignals:
    """What a shell, a job scheduler and a terminal that is closed send ends the program as Ctrl-C does."""

    @pytest.fixture
    def many(self, tmp_path):
        """A program that has made one picture of a hundred."""

        def many(*args):
            process = start(
                *("generate", "a cat", "-n", "100", "-o", "x.png", *args),
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert process.stdout.readline() == "x.png\n"
            return process

        return many

    def ended(self, process, tmp_path, code):
        _, err = process.communicate(timeout=60)
        assert process.returncode == code
        assert err.strip() == ""
        for file in tmp_path.iterdir():
            assert file.suffix == ".png"
            with Image.open(file) as image:
                image.load()

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
    @pytest.mark.parametrize("times", [1, 2, 5])
    def test_stop_at_once(self, many, tmp_path, name, times):
        number = getattr(signal, name)
        process = many()
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.002)
        self.ended(process, tmp_path, 128 + number)

    def test_the_first_one_is_reported(self, many, tmp_path):
        process = many()
        process.send_signal(signal.SIGHUP)
        time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        self.ended(process, tmp_path, 128 + signal.SIGHUP)

    def test_nohup_keeps_running(self, tmp_path):
        process = subprocess.Popen(
            [*SDRT, "generate", "a cat", "-n", "4", "--steps", "30", "-o", "x.png"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        )
        assert process.stdout.readline() == "x.png\n"
        process.send_signal(signal.SIGHUP)
        self.ended(process, tmp_path, 0)
        assert len(list(tmp_path.iterdir())) == 4

    def test_in_the_middle_of_code_that_is_a_text(self):
        """Python would end the process by SIGINT."""
        program = (
            "import signal, sys\n"
            "from sdrt.cli.stopping import stopping\n"
            "with stopping() as asked:\n"
            "    try:\n"
            "        exec('signal.raise_signal(signal.SIGTERM)')\n"
            "    except KeyboardInterrupt:\n"
            "        sys.exit(asked.exit_code)\n"
        )
        assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 143

    @pytest.mark.parametrize("swallow", [True, False])
    def test_a_library_that_drops_it_or_makes_an_error_of_it(self, sdrt_main, monkeypatch, swallow):
        """Extensions that are imported turn it into an ImportError."""

        def find(name):
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:
                if not swallow:
                    raise ImportError("initialization failed") from None
            with progress_bar([]) as on_step:
                on_step(None)

        kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        monkeypatch.setattr("sdrt.models.find_bundle", find)
        try:
            result = sdrt_main("verify")
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
        assert (result.code, result.err.strip()) == (143, "")

    def test_before_anything_is_imported(self, tmp_path):
        with start("generate", "a cat", cwd=tmp_path, stderr=subprocess.PIPE) as process:
            time.sleep(0.03)
            process.send_signal(signal.SIGTERM)
            err = process.stderr.read()
        assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
        assert err == b""

    def test_a_second_one_later_ends_what_swallowed_the_first(self, monkeypatch):
        now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        with stopping() as asked:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # cleaning up is not interrupted
            now += 10
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            assert asked.exit_code == 143
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
