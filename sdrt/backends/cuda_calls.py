"""Calls into the CUDA runtime: what they return is checked, and a failure says what it was about."""

from __future__ import annotations

import importlib
from typing import Any

from sdrt.backends.failures import one_line
from sdrt.errors import BackendUnavailableError, ComputeError, MissingExtraError


class Cuda:
    """The CUDA runtime of cuda-python, `cuda.bindings.runtime`, as `runtime`."""

    def __init__(self, extra: str) -> None:
        """extra: of sdrt, which brings cuda-python to whoever asks.

        Raises MissingExtraError if it is not installed, BackendUnavailableError if there is no GPU.
        """
        try:
            self.runtime = importlib.import_module("cuda.bindings.runtime")
        except ModuleNotFoundError:
            raise MissingExtraError("cuda-python", extra) from None
        except ImportError as error:
            raise BackendUnavailableError(f"cuda-python does not load: {one_line(error)}") from None
        failed, count = self.runtime.cudaGetDeviceCount()
        if failed or not count:
            why = f": {self._described(failed)}" if failed else ""
            raise BackendUnavailableError(
                f"no NVIDIA GPU that CUDA can use{why}; `nvidia-smi` shows what there is, and "
                "--backend onnxruntime needs none"
            )

    def check(self, answer: tuple[Any, ...], doing: str) -> Any:
        """What a call returned behind its error: one value, a tuple of several, or None.

        Raises ComputeError if it failed while `doing`.
        """
        error, *values = answer
        if error:
            raise ComputeError(f"CUDA failed while {doing}: {self._described(error)}")
        return values[0] if len(values) == 1 else tuple(values) or None

    def out_of_memory(self, error: Any) -> bool:
        """Whether an error says that there is no memory left."""
        return bool(error == self.runtime.cudaError_t.cudaErrorMemoryAllocation)

    def forget_error(self) -> None:
        """Let no later call report what was dealt with."""
        self.runtime.cudaGetLastError()

    def _described(self, error: Any) -> str:
        _, name = self.runtime.cudaGetErrorName(error)
        _, text = self.runtime.cudaGetErrorString(error)
        return f"{text.decode()} ({name.decode()})"
