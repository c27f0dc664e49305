"""The most that matrix products reach on this machine: what a network's speed is measured against.

python -m sdrt_bench.matrix_peak        prints it as JSON
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

_SIZE = 2048
_SECONDS = 1.0


def measure() -> dict[str, float]:
    """TFLOP/s of square products by library and precision, measured in a process of its own."""
    done = subprocess.run([sys.executable, "-m", __name__], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def peak(found: dict[str, float], precision: str) -> float | None:
    """The best of a precision, whatever library reached it; None if none was measured."""
    return max((value for name, value in found.items() if name.endswith(precision)), default=None)


def _products() -> dict[str, Callable[[], Any]]:
    a, b = np.random.default_rng(0).standard_normal((2, _SIZE, _SIZE), np.float32)
    products: dict[str, Callable[[], Any]] = {"numpy fp32": lambda: a @ b}
    try:
        import torch
    except ImportError:
        return products
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        x, y = torch.from_numpy(a).to(dtype), torch.from_numpy(b).to(dtype)
        products[f"torch {name}"] = partial(torch.matmul, x, y)
    return products


def quickest(call: Callable[[], Any]) -> float:
    """Seconds of the quickest run within a second, the first left out."""
    call()
    least, ends = float("inf"), time.perf_counter() + _SECONDS
    while (started := time.perf_counter()) < ends:
        call()
        least = min(least, time.perf_counter() - started)
    return least


if __name__ == "__main__":
    print(
        json.dumps({name: 2 * _SIZE**3 / quickest(product) / 1e12 for name, product in _products().items()})
    )
