"""A campaign of changed inputs: each must end in a result or in a refusal of one printable line.

python tests/fuzz/campaign.py                            a minute, all targets, a new seed
python tests/fuzz/campaign.py --seconds 600 --seed 7 --only prompt,text
python tests/fuzz/campaign.py --replay prompt FILE       one input, with what went wrong

What is looked at stands in `judge.py`, the targets in `targets.py`. A target's inputs are read in a process
of its own, so that a crash or a hang ends that process only. Of each kind of escape the first input is made
smaller and written to --keep; escapes that are not in `known.py` make it end with 1.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import secrets
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE), str(HERE.parent / "sdrt")]

from known import KNOWN, Known  # noqa: E402

WAIT = 20.0  # seconds without an answer: it hangs; importing alone takes a few on a busy machine
MINIMISE = 10.0
MOST_DEATHS = 5  # of processes for one target


@dataclass(kw_only=True)
class Escape:
    """An input that did not end as it should. file: where it was written; count: how many of its kind."""

    target: str
    escape: str
    said: str
    content: bytes
    number: int
    count: int = 1
    file: Path | None = None

    @property
    def known(self) -> Known | None:
        """The entry for escapes of this kind."""
        return next((one for one in KNOWN if one.covers(self.target, self.escape)), None)


@dataclass(kw_only=True)
class Tally:
    """Of one target. refused: numbers of the cases that were no valid inputs."""

    cases: int = 0
    refused: list[int] = field(default_factory=list)
    slowest: float = 0.0
    escapes: dict[str, Escape] = field(default_factory=dict)

    def add(self, escape: Escape) -> None:
        """Count an escape; the first of a kind is kept."""
        known = self.escapes.setdefault(escape.escape, escape)
        if known is not escape:
            known.count += 1


def fuzz(target: str, seed: str, *, cases: int = sys.maxsize, seconds: float = 1e9) -> Tally:
    """Read so many changed inputs, or for so long, in processes of its own."""
    tally, first, until = Tally(), 0, time.monotonic() + seconds
    for _ in range(MOST_DEATHS):
        left = until - time.monotonic()
        begun = _run(target, seed, first, cases - first, left, tally)
        if begun is None:
            break
        first = begun + 1
        if first >= cases or time.monotonic() > until:
            break
    return tally


def _run(target: str, seed: str, first: int, cases: int, seconds: float, tally: Tally) -> int | None:
    """One process; the case that ended it, None if it came to its end."""
    from judge import Outside

    with tempfile.TemporaryDirectory(prefix="sdrt-fuzz-") as temporary:
        parent = Path(temporary)
        (parent / "work").mkdir()
        outside = Outside(parent)
        begun: int | None = None
        with _Worker(parent / "work", target, seed, str(first), str(cases), str(seconds)) as worker:
            for answer in worker.answers():
                if "begin" in answer:
                    begun = answer["begin"]
                    continue
                tally.cases += 1
                tally.refused += [answer["end"]] if answer["refused"] else []
                tally.slowest = max(tally.slowest, answer["seconds"])
                if "escape" in answer:
                    content = base64.b64decode(answer["input"])
                    tally.add(_escape(target, answer["escape"], answer["said"], content, answer["end"]))
                begun = None
            code, said = worker.end()
        if begun is None and code:
            raise RuntimeError(f"the process of {target} failed by itself: {said}")
        if begun is not None:
            tally.cases += 1
            how = f"no answer in {WAIT:g} s" if worker.hung else f"the process ended with {code}"
            tally.add(_escape(target, how, said, _content(target, seed, begun), begun))
        elif outside.changed():
            tally.add(_escape(target, "files outside of the folder were changed", "", b"", first))
        return begun


def _escape(target: str, escape: str, said: str, content: bytes, number: int) -> Escape:
    return Escape(target=target, escape=escape, said=said, content=content, number=number)


def _content(target: str, seed: str, number: int) -> bytes:
    from targets import TARGETS
    from worker import case

    return case(TARGETS[target], seed, number)


class _Worker:
    """A process of `worker.py`."""

    def __init__(self, folder: Path, target: str, *words: str) -> None:
        self.hung = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        paths = [
            ROOT,
            HERE,
            HERE.parent / "sdrt",
            *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
        ]
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), str(folder), target, *words],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        )

    def answers(self) -> Iterator[dict[str, Any]]:
        """Until it ends or hangs."""
        assert self._process.stdout is not None
        descriptor, text = self._process.stdout.fileno(), b""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while selector.select(WAIT):
                read = os.read(descriptor, 1 << 16)
                if not read:
                    return
                *lines, text = (text + read).split(b"\n")
                yield from map(json.loads, lines)
        self.hung = True

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it said last on stderr."""
        if self.hung:
            self._process.kill()
        code = self._process.wait()
        self._errors.seek(0)
        return code, self._errors.read().decode(errors="replace")[-2_000:]

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()


def replay(target: str, content: bytes) -> dict[str, Any]:
    """What becomes of one input: `escape`, empty if all is well, and what was said."""
    with tempfile.TemporaryDirectory(prefix="sdrt-fuzz-") as temporary:
        parent = Path(temporary)
        (parent / "work").mkdir()
        (parent / "outside").mkdir()
        (parent / "outside" / "canary").write_text("{}")
        (parent / "input").write_bytes(content)
        with _Worker(parent / "work", target, "--replay", str(parent / "input")) as worker:
            for answer in worker.answers():
                return answer
            code, said = worker.end()
            how = f"no answer in {WAIT:g} s" if worker.hung else f"the process ended with {code}"
            return {"escape": how, "said": said}


def keep(escape: Escape, folder: Path) -> None:
    """Write a small input that escapes in the same way."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(f"{escape.target} {escape.escape}".encode()).hexdigest()[:8]
    name, dot, ending = escape.target.partition(".")
    escape.file = (folder / f"{name}-{digest}{dot}{ending}").resolve()
    escape.file.write_bytes(escape.content)
    if escape.escape.startswith(("no answer", "the process ended")):
        return  # each attempt would cost a process
    with tempfile.TemporaryDirectory(prefix="sdrt-fuzz-") as temporary:
        (Path(temporary) / "work").mkdir()
        (Path(temporary) / "outside").mkdir()
        (Path(temporary) / "outside" / "canary").write_text("{}")
        words = ("--minimise", str(escape.file), str(MINIMISE))
        with _Worker(Path(temporary) / "work", escape.target, *words) as worker:
            for _ in worker.answers():
                pass


def report(escape: Escape, seed: str) -> str:
    """What to print of a kind of escapes."""
    lines = [
        f"  {escape.target}: {escape.escape} ({escape.count} times; first: seed {seed}, case {escape.number})"
    ]
    if escape.known is not None:
        return f"{lines[0]}: known"
    lines += [f"    {line}" for line in ascii_(escape.said).strip().splitlines()[-6:]]
    if escape.file is not None:
        lines.append(f"    python tests/fuzz/campaign.py --replay {escape.target} {escape.file}")
    return "\n".join(lines)


def ascii_(said: str) -> str:
    """For a terminal: a message that escapes may hold anything."""
    lines = (line.encode("unicode_escape").decode() for line in said.split("\n"))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign; 1 if there was an escape that is not known."""
    from targets import TARGETS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--seed", default=None, help="any text; a new one by default")
    parser.add_argument("--only", help="targets, with commas between them")
    parser.add_argument(
        "--keep", type=Path, default=ROOT / "build" / "fuzz", help="where inputs that escape go"
    )
    parser.add_argument("--replay", nargs=2, metavar=("TARGET", "FILE"))
    asked = parser.parse_args(arguments)
    if asked.replay:
        target, file = asked.replay
        answer = replay(target, Path(file).read_bytes())
        print(answer["escape"] or "as it should be", ascii_(answer["said"]), sep="\n")
        return int(bool(answer["escape"]))
    seed = asked.seed or secrets.token_hex(4)
    chosen = asked.only.split(",") if asked.only else list(TARGETS)
    print(f"seed {seed}, {asked.seconds:g} s for {len(chosen)} targets", flush=True)
    found = []
    until = time.monotonic() + asked.seconds
    for position, target in enumerate(chosen):
        share = max(until - time.monotonic(), 1.0) / (len(chosen) - position)
        tally = fuzz(target, seed, seconds=share)
        print(
            f"{target:24}{tally.cases:8} cases  {len(tally.refused):8} refused  "
            f"{sum(one.count for one in tally.escapes.values()):5} escapes  slowest {tally.slowest:.2f} s",
            flush=True,
        )
        found += tally.escapes.values()
    for escape in found:
        if escape.known is None:
            keep(escape, asked.keep)
        print(report(escape, seed))
    if KNOWN:
        print("known, still open, whether they came up or not:")
    for one in KNOWN:
        print(f"  {one.target}: {one.escape}: {one.why}")
    return int(any(escape.known is None for escape in found))


if __name__ == "__main__":
    sys.exit(main())
