"""How fast memory is copied on this machine: the slope of a roofline.

python -m sdrt_bench.memory_bandwidth        prints bytes per second
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numpy as np

_BYTES = 256_000_000  # beyond any cache
_SECONDS = 1.0


def measure() -> float:
    """Bytes per second, read and written, of a copy by all cores; measured in a process of its own."""
    done = subprocess.run([sys.executable, "-m", __name__], check=True, capture_output=True, text=True)
    return float(done.stdout)


def _best() -> float:
    """Of the quickest copy within a second, the first left out."""
    threads = cpu_count() or 1
    sources = [np.ones(_BYTES // threads, np.uint8) for _ in range(threads)]
    targets = [np.empty_like(source) for source in sources]
    quickest = float("inf")
    with ThreadPoolExecutor(threads) as pool:  # numpy copies without the interpreter's lock
        list(pool.map(np.copyto, targets, sources))
        ends = time.perf_counter() + _SECONDS
        while (started := time.perf_counter()) < ends:
            list(pool.map(np.copyto, targets, sources))
            quickest = min(quickest, time.perf_counter() - started)
    return 2 * _BYTES / quickest


if __name__ == "__main__":
    print(_best())
