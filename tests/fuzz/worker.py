"""One process of a campaign: changes inputs, reads them, and says what became of each in a line of JSON.

python worker.py FOLDER TARGET SEED FIRST CASES SECONDS      cases FIRST, FIRST + 1, ...
python worker.py FOLDER TARGET --replay FILE                 this input
python worker.py FOLDER TARGET --minimise FILE SECONDS       a smaller one with the same escape, to FILE

Before a case there is a line with its number, so that whoever waits knows which one crashed or hung.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuzz_target import Target


def main() -> None:
    folder, name, *rest = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what libraries print is no answer
    os.environ.update(
        HOME=folder, XDG_CACHE_HOME=f"{folder}/cache", TMPDIR=folder, TOKENIZERS_PARALLELISM="false"
    )
    files = [str(Path(one).resolve()) for one in rest[1:2]]
    os.chdir(folder)
    import judge
    from targets import TARGETS

    target = TARGETS[name]
    originals = target.originals
    referee = judge.Judge()
    for content in originals:  # what is imported and made once is not part of a case
        referee.judge(target, content)

    def say(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    def verdict(content: bytes) -> judge.Verdict:
        return referee.judge(target, content)

    if rest[0] == "--replay":
        found = verdict(Path(files[0]).read_bytes())
        say(escape=found.escape, said=found.said, refused=found.refused, seconds=found.seconds)
        return
    if rest[0] == "--minimise":
        until = time.monotonic() + float(rest[2])
        content = Path(files[0]).read_bytes()
        wanted = verdict(content).escape
        smaller = minimised(content, lambda one: verdict(one).escape == wanted, until) if wanted else content
        Path(files[0]).write_bytes(smaller)
        return
    seed, first, cases, seconds = rest[0], int(rest[1]), int(rest[2]), float(rest[3])
    until = time.monotonic() + seconds
    for number in range(first, first + cases):
        if time.monotonic() > until:
            break
        content = case(target, seed, number)
        say(begin=number)
        found = verdict(content)
        fields: dict[str, Any] = {"end": number, "refused": found.refused, "seconds": found.seconds}
        if found.escape:
            fields |= {
                "escape": found.escape,
                "said": found.said,
                "input": base64.b64encode(content).decode(),
            }
        say(**fields)


def case(target: Target, seed: str, number: int) -> bytes:
    """The input of one case, the same in any process. The first are the originals, unchanged."""
    if number < len(target.originals):
        return target.originals[number]
    return target.case(Random(f"{seed}/{target.name}/{number}"))


def minimised(content: bytes, same: Any, until: float) -> bytes:
    """Leave out slices, large ones first, as long as what is left escapes in the same way."""
    size = max(len(content) // 2, 1)
    while size and time.monotonic() < until:
        at = 0
        while at < len(content) and time.monotonic() < until:
            shorter = content[:at] + content[at + size :]
            if same(shorter):
                content = shorter
            else:
                at += size
        size //= 2
    return content


if __name__ == "__main__":
    main()
