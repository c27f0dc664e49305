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
from itertools import pairwise
from typing import Any

import numpy as np

_SIZES = {"cpu": 2048, "cuda": 8192}  # a GPU needs larger ones to be busy
_SECONDS = 1.0
_QUEUED = 10  # runs between two waits: a GPU that is waited for stands still in between
_FP8 = (8, 9)  # the compute capability that has it


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
    x, y = (torch.from_numpy(one).to("cuda") for one in (a, b))
    products: dict[str, Callable[[], Any]] = {
        f"torch cuda {name}": partial(torch.matmul, x.to(dtype), y.to(dtype))
        for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16))
    }
    if torch.cuda.get_device_capability() >= _FP8:
        one = torch.ones((), device="cuda")
        products["torch cuda fp8"] = partial(
            torch._scaled_mm,
            x.to(torch.float8_e4m3fn),
            y.t().contiguous().to(torch.float8_e4m3fn).t(),  # cuBLAS wants the second one column by column
            scale_a=one,
            scale_b=one,
            out_dtype=torch.bfloat16,
        )
    return products


def quickest(call: Callable[[], Any]) -> float:
    """Seconds of the quickest run within a second, the first left out."""
    call()
    least, ends = float("inf"), time.perf_counter() + _SECONDS
    while (started := time.perf_counter()) < ends:
        call()
        least = min(least, time.perf_counter() - started)
    return least


def quickest_on_cuda(call: Callable[[], Any]) -> float:
    """Seconds of the quickest of many runs that are queued within a second, by the GPU's own clock."""
    import torch

    least, ends = float("inf"), time.perf_counter() + _SECONDS
    call()
    while time.perf_counter() < ends:
        marks: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(_QUEUED + 1)]  # type: ignore[no-untyped-call]
        marks[0].record()
        for mark in marks[1:]:
            call()
            mark.record()
        torch.cuda.synchronize()
        least = min(least, *(start.elapsed_time(end) / 1e3 for start, end in pairwise(marks)))
    return least


def _main(device: str) -> None:
    operations = 2 * _SIZES[device] ** 3
    time_of, found = quickest_on_cuda if device == "cuda" else quickest, {}
    for name, product in _products(device).items():
        try:
            found[name] = operations / time_of(product) / 1e12
        except RuntimeError as error:  # a library without this precision; the others are measured
            print(f"{name}: {error}", file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:] or ["cpu"])
