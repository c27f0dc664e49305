"""The process of one step.

python -m sdrt_bench.gpu.child STEP WORK RECORDS [--rehearse]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from sdrt.errors import SdrtError
from sdrt_bench.gpu import plan
from sdrt_bench.gpu.report import Record
from sdrt_bench.gpu.steps import Context


def main(name: str, work: str, records: str, *options: str) -> None:
    """Run a step, and write a line of JSON to `records` as soon as something is known."""
    cores = os.cpu_count() or 1
    scale = plan.rehearsal(cores) if "--rehearse" in options else plan.real(cores)
    step = next(one for one in plan.steps() if one.name == name)
    with Path(records).open("ab", buffering=0) as file:

        def record(one: Record) -> None:
            file.write(msgspec.json.encode(one) + b"\n")

        try:
            step.run(Context(work=Path(work), scale=scale, record=record))
        except SdrtError as error:
            raise SystemExit(f"Error: {error}") from None


if __name__ == "__main__":
    main(*sys.argv[1:])
