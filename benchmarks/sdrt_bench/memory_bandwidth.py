"""How fast memory is copied on this machine: the slope of a roofline.

python -m sdrt_bench.memory_bandwidth [cuda]        prints bytes per second
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numpy as np

from sdrt_bench.matrix_peak import quickest, quickest_on_cuda

_BYTES = 256_000_000  # beyond any cache
_CUDA_BYTES = 2_000_000_000


def measure(device: str = "cpu") -> float:
    """Bytes per second, read and written, of a copy by all cores; measured in a process of its own."""
    command = [sys.executable, "-m", __name__, device]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _best() -> float:
    """Of the quickest copy within a second, the first left out."""
    threads = cpu_count() or 1
    sources = [np.ones(_BYTES // threads, np.uint8) for _ in range(threads)]
    targets = [np.empty_like(source) for source in sources]
    with ThreadPoolExecutor(threads) as pool:  # numpy copies without the interpreter's lock
        return 2 * _BYTES / quickest(lambda: list(pool.map(np.copyto, targets, sources)))


def _best_on_cuda() -> float:
    import torch

    source = torch.ones(_CUDA_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    return 2 * _CUDA_BYTES / quickest_on_cuda(lambda: target.copy_(source))


if __name__ == "__main__":
    print(_best_on_cuda() if "cuda" in sys.argv[1:] else _best())
