"""Engines of AOTInductor: a graph's PyTorch module, compiled to a package for the device of this machine.

A package holds code alone. Its tensors come from the bundle when it is loaded
(`sdrt/backends/aoti_constants.py`). So packages are small, are built without weights in memory, and all of
them take LoRAs.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from sdrt.backends.aoti import architecture, load_package, open_torch
from sdrt.backends.aoti_constants import METADATA_KEY, encode
from sdrt.backends.torch_failures import first_line
from sdrt.engines import EngineKind
from sdrt.errors import BackendUnavailableError, EngineError, ExportError, InputError

from .aoti_program import Program, trace
from .engine_builders import BuilderOptions
from .engines import EngineTask, Progress
from .noise import quiet

_PLAIN = 3  # the highest level that takes the first kernel
_HEAVY = ("addmm", "baddbmm", "bmm", "conv", "linear", "matmul", "mm", "scaled_dot_product_attention")


class Builder:
    """Compiles for CUDA where torch sees it, else for the CPU.

    Weights can be replaced in every package, whether that was asked for or not.
    Raises MissingExtraError without torch, BackendUnavailableError without a C++ compiler, InputError for
    options that it does not have.
    """

    kind: EngineKind = "aoti"

    def __init__(self, options: BuilderOptions) -> None:
        if options.memory_limit is not None:
            raise InputError("AOTInductor has no limit of memory to set; leave out --memory-limit")
        self.device, self.version = open_torch(None)
        self.architecture = architecture(self.device)
        cuda = self.device == "cuda"
        self._channels_last, self._fused_projections = True, cuda
        self._autotune = options.level is not None and options.level > _PLAIN
        if self._autotune and not cuda:
            # inductor's own products pack weights while it compiles, and there are none then
            raise InputError(
                f"AOTInductor has several kernels to choose from on GPUs only; take --builder-level {_PLAIN}"
            )
        self.settings = {
            "channels_last": str(self._channels_last).lower(),
            "fused_projections": str(self._fused_projections).lower(),
            "max_autotune": str(self._autotune).lower(),
        }
        _check_compiler()

    def build(self, task: EngineTask, target: Path, progress: Progress) -> dict[str, int]:
        """Write a package; returns how many products and convolutions compute in which precision.

        Raises ExportError if the bundle does not make the graph's module, or torch refuses it.
        """
        program = trace(
            task,
            device=self.device,
            channels_last=self._channels_last,
            fused_projections=self._fused_projections,
        )
        progress(f"compiling {task.graph}")
        self._compile(task, program, target)
        _check(target, program)
        return _layers(program.exported)

    def _compile(self, task: EngineTask, program: Program, target: Path) -> None:
        settings: dict[str, Any] = {
            "aot_inductor.package_constants_in_so": False,
            # else the numbers of a small bias become part of the code
            "always_keep_tensor_constants": True,
            "aot_inductor.metadata": {METADATA_KEY: encode(program.constants)},
            "cpp.dynamic_threads": True,  # not as many as this process has
            "max_autotune": self._autotune,
            "conv_1x1_as_mm": self._autotune,
        }
        try:
            with quiet(), torch.no_grad():
                torch._inductor.aoti_compile_and_package(
                    program.exported, package_path=str(target), inductor_configs=settings
                )
        except Exception as error:  # of many kinds: inductor's, Triton's, the C++ compiler's
            raise ExportError(f"AOTInductor cannot compile {task.graph}: {first_line(error)}") from error


def _check_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise BackendUnavailableError(
            "AOTInductor needs a C++ compiler and there is none; install g++, or name one in CXX"
        ) from None


def _check(package: Path, program: Program) -> None:
    """Raise ExportError if a package cannot be loaded, or takes other tensors than its list says.

    It was compiled on memory that means nothing: what it does not take would be in its code.
    """
    try:
        taken = set(load_package(package).get_constant_fqns())
    except EngineError as error:
        raise ExportError(f"the package that was just compiled does not load: {error}") from error
    other = sorted(taken ^ program.constants.keys())
    if other:
        raise ExportError(
            f"the package that was compiled takes other weights than its program: {other[0]} "
            f"({len(other)} in all); this is a bug of sdrt"
        )


def _layers(exported: ExportedProgram) -> dict[str, int]:
    counts = Counter(
        str(node.meta["val"].dtype).removeprefix("torch.")
        for node in exported.graph.nodes
        if node.op == "call_function" and any(name in str(node.target) for name in _HEAVY)
        if isinstance(node.meta.get("val"), torch.Tensor)
    )
    return dict(counts)
