"""The most that matrix products reach on this machine: what a network's speed is measured against.

python -m sdrt_bench.matrix_peak [cuda]        prints it as JSON
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

_SIZES = {"cpu": 2048, "cuda": 8192}  # a GPU needs larger ones to be busy
_SECONDS = 1.0


def measure(device: str = "cpu") -> dict[str, float]:
    """TFLOP/s of square products by library and precision, measured in a process of its own."""
    command = [sys.executable, "-m", __name__, device]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def peak(found: dict[str, float], precision: str) -> float | None:
    """The best of a precision, whatever library reached it; None if none was measured."""
    return max((value for name, value in found.items() if name.endswith(precision)), default=None)


def _products(device: str) -> dict[str, Callable[[], Any]]:
    a, b = np.random.default_rng(0).standard_normal((2, _SIZES[device], _SIZES[device]), np.float32)
    if device == "cuda":
        return _cuda_products(a, b)
    products: dict[str, Callable[[], Any]] = {"numpy fp32": lambda: a @ b}
    try:
        import torch
    except ImportError:
        return products
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        x, y = torch.from_numpy(a).to(dtype), torch.from_numpy(b).to(dtype)
        products[f"torch {name}"] = partial(torch.matmul, x, y)
    return products


def _cuda_products(a: Any, b: Any) -> dict[str, Callable[[], Any]]:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False

    def product(x: Any, y: Any) -> None:
        x @ y
        torch.cuda.synchronize()

    return {
        f"torch cuda {name}": partial(product, *(torch.from_numpy(one).to("cuda", dtype) for one in (a, b)))
        for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16))
    }


def quickest(call: Callable[[], Any]) -> float:
    """Seconds of the quickest run within a second, the first left out."""
    call()
    least, ends = float("inf"), time.perf_counter() + _SECONDS
    while (started := time.perf_counter()) < ends:
        call()
        least = min(least, time.perf_counter() - started)
    return least


def _main(device: str) -> None:
    operations = 2 * _SIZES[device] ** 3
    products = _products(device)
    print(json.dumps({name: operations / quickest(product) / 1e12 for name, product in products.items()}))


if __name__ == "__main__":
    _main(*sys.argv[1:] or ["cpu"])
