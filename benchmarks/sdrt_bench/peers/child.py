"""The child's side: one peer, told what to do on stdin, a line of JSON for each command.

python -m sdrt_bench.peers.child '{"runner": "sdrt", ...}'
"""

from __future__ import annotations

import importlib
import os
import resource
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Protocol, TextIO, runtime_checkable

import msgspec
import numpy as np

from sdrt_bench.peers import DISTRIBUTIONS, MODULES, Answer, Command, Peer, PeerStart


@runtime_checkable
class Converting(Protocol):
    """A peer that cannot read a checkpoint as it is."""

    def convert(self) -> None:
        """Make of the checkpoint what it can read, unless that is there."""
        ...


def open_peer(start: PeerStart) -> Peer:
    """The peer, with all it needs imported. Raises ImportError."""
    module = importlib.import_module(f"sdrt_bench.peers.{MODULES[start.runner]}")
    peer: Peer = module.open_peer(start)
    return peer


def serve(start: PeerStart, commands: Iterable[str], answers: TextIO) -> None:
    """Open the peer and answer one line to that, then one to each command; stops when there are no more."""
    try:
        peer = open_peer(start)
    except ImportError as error:
        _say(answers, Answer(absent=" ".join(str(error).split())))
        return
    _say(answers, Answer(versions=_versions(start)))
    for line in commands:
        try:
            _say(answers, _answer(peer, msgspec.json.decode(line, type=Command)))
        except Exception as error:  # of any library; the parent reports it and goes on with the others
            text = " ".join(str(error).split())
            if start.model:  # reports are shown to others, whom the folders of this machine tell nothing
                text = text.replace(start.model, Path(start.model).name)
            _say(answers, Answer(error=f"{type(error).__name__}: {text}"))
            return


def _answer(peer: Peer, command: Command) -> Answer:
    if command.do == "convert":
        if not isinstance(peer, Converting):
            raise TypeError("this peer reads checkpoints as they are")
        peer.convert()
        return Answer()
    if command.do == "load":
        peer.load()
        return Answer(peak_mb=peak_mb())
    if command.job is None:
        raise ValueError(f"{command.do} needs a job")
    if command.do == "work":
        from sdrt_bench.peers.runtime import RuntimePeer

        if not isinstance(peer, RuntimePeer):
            raise TypeError("work is counted in sdrt's graphs")
        return Answer(work=peer.work(command.job))
    generated, kept = peer.generate(command.job)
    if command.job.keep is not None:
        np.savez(command.job.keep, pixels=kept.pixels, latents=kept.latents)
    return Answer(generated=generated, peak_mb=peak_mb(), device_mb=device_mb())


def peak_mb() -> float:
    """Most memory this process has held, in MB.

    VmHWM where there is one: ru_maxrss also counts the process that this one was started from.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def device_mb() -> float | None:
    """Memory of the GPU, in MB; None if this process runs none.

    Of torch it is the most that this process has reserved, without the half gigabyte of CUDA's own context.
    Of other libraries it is all that is taken: a process cannot be told from another in a container.
    """
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_reserved()) / 2**20
    if (runtime := sys.modules.get("cuda.bindings.runtime")) is not None:
        error, free, total = runtime.cudaMemGetInfo()
        return float(total - free) / 2**20 if int(error) == 0 else None
    return None


def _versions(start: PeerStart) -> dict[str, str]:
    """Of what is installed, which is all that the peer imports."""
    versions = {}
    for name in DISTRIBUTIONS[start.backend.partition(":")[0] if start.runner == "sdrt" else start.runner]:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _say(answers: TextIO, answer: Answer) -> None:
    answers.write(msgspec.json.encode(answer).decode() + "\n")
    answers.flush()


def main() -> None:
    """Serve the parent. What libraries print goes to stderr, so that it cannot be taken for an answer."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(msgspec.json.decode(sys.argv[1], type=PeerStart), sys.stdin, answers)


if __name__ == "__main__":
    main()
