"""How fast memory is copied on this machine: the slope of a roofline.

python -m sdrt_bench.memory_bandwidth        prints bytes per second
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numpy as np

from sdrt_bench.matrix_peak import quickest

_BYTES = 256_000_000  # beyond any cache


def measure() -> float:
    """Bytes per second, read and written, of a copy by all cores; measured in a process of its own."""
    done = subprocess.run([sys.executable, "-m", __name__], check=True, capture_output=True, text=True)
    return float(done.stdout)


def _best() -> float:
    """Of the quickest copy within a second, the first left out."""
    threads = cpu_count() or 1
    sources = [np.ones(_BYTES // threads, np.uint8) for _ in range(threads)]
    targets = [np.empty_like(source) for source in sources]
    with ThreadPoolExecutor(threads) as pool:  # numpy copies without the interpreter's lock
        return 2 * _BYTES / quickest(lambda: list(pool.map(np.copyto, targets, sources)))


if __name__ == "__main__":
    print(_best())
