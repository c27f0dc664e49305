"""An exported graph against the PyTorch module it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sdrt.errors import ExportError, SdrtError
from sdrt.manifest import Fidelity, Precision
from sdrt.tensors import TensorSpec

from .graphs import DTYPES, to_precision
from .parameters import Weights, streaming
from .specs import GraphSpec

# Relative L2. Summation order alone makes about 1e-6 in FP32; rounding weights to FP16 about 5e-4 per layer.
TOLERANCE: dict[Precision, float] = {"fp32": 1e-5, "fp16": 5e-3}
# Latents that divide evenly through the U-Net, and that do on no level; prompts of one chunk, and of two.
TRIALS = (
    {"batch": 2, "height": 16, "width": 8, "sequence": 77},
    {"batch": 1, "height": 9, "width": 13, "sequence": 154},
)

_Run = Callable[[list[str], dict[str, Any]], list[Any]]


@dataclass(frozen=True)
class Trial:
    """Inputs by name, and what the FP32 module made of them."""

    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]


def run_references(spec: GraphSpec, model: nn.Module, weights: Weights) -> tuple[Trial, ...]:
    """Run the module in FP32 on seeded random inputs of both sizes; it is empty before and after.

    Raises ExportError if it gives NaN or infinity: then the checkpoint is at fault.
    """
    trials = []
    for seed, sizes in enumerate(TRIALS):
        inputs = spec.random_inputs(**sizes, seed=seed)
        with streaming(model, weights):
            expected = spec.reference(model, inputs)
        for name, value in expected.items():
            if not value.isfinite().all():
                raise ExportError(
                    f"the checkpoint's {spec.component} itself gives NaN or infinity as {name}; "
                    "its weights are damaged"
                )
        trials.append(Trial(inputs, expected))
    return tuple(trials)


def measure(
    spec: GraphSpec, path: Path, trials: tuple[Trial, ...], precision: Precision
) -> tuple[Fidelity, ...]:
    """Run the graph at `path` on each trial.

    Raises ExportError, naming graph and figures, if an output is not finite or farther away than TOLERANCE.
    """
    try:
        session = open_session(path, precision)
        return tuple(_compare(spec, session.run, trial, precision, DTYPES[precision]) for trial in trials)
    except SdrtError:
        raise
    except Exception as error:  # onnxruntime's have no base class of their own
        raise _cannot_run(spec, error) from error


def check_rows(spec: GraphSpec, path: Path, inputs: Mapping[str, TensorSpec], precision: Precision) -> None:
    """Run a graph that has no module to compare with: a row must come out the same beside another and alone.

    inputs: what the graph takes. Raises ExportError, naming the graph, if it does not, if an output is not
    finite, or if it cannot be run.
    """
    feeds = {
        name: value.numpy().astype(inputs[name].dtype)
        for name, value in spec.random_inputs(**TRIALS[0], seed=0).items()
    }
    alone = {name: value[1:] for name, value in feeds.items()}
    try:
        session = open_session(path, precision)
        (both,), (one,) = (session.run([session.get_outputs()[0].name], feed) for feed in (feeds, alone))
    except Exception as error:  # onnxruntime's have no base class of their own
        raise _cannot_run(spec, error) from error
    if not np.isfinite(both).all():
        raise ExportError(f"{spec.name} gives NaN or infinity in {precision}; the folder's graph is damaged")
    figures = _figures(both[1:].astype(np.float64), one.astype(np.float64), {})
    if not figures.relative_l2 <= TOLERANCE[precision]:
        raise ExportError(
            f"{spec.name} gives another row beside other rows than alone: relative L2 is "
            f"{figures.relative_l2:.2e} (at most {TOLERANCE[precision]:.0e}); export the checkpoint itself"
        )


def _cannot_run(spec: GraphSpec, error: Exception) -> ExportError:
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return ExportError(f"onnxruntime cannot run the exported {spec.name}: {line}")


def open_session(path: Path, precision: Precision) -> Any:
    """Open a graph so that it rounds where the graph says, in little memory."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    if precision == "fp16":
        # else all weights are kept in FP32; the roundings between its FP32 kernels are dropped in any case
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # else all weights are cast before the first is used: 11.5 instead of 5.3 GB for the U-Net of SDXL
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.add_session_config_entry("session.disable_prepacking", "1")  # a copy of the weights, for two runs
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _compare(spec: GraphSpec, run: _Run, trial: Trial, precision: Precision, dtype: torch.dtype) -> Fidelity:
    feeds = {name: value.numpy() for name, value in to_precision(trial.inputs, dtype).items()}
    outputs = run(list(spec.outputs), feeds)
    shapes = {name: value.shape for name, value in feeds.items()}
    figures = []
    for (name, expected), output in zip(trial.expected.items(), outputs, strict=True):
        if not np.isfinite(output).all():
            raise ExportError(
                f"{spec.name} gives NaN or infinity as {name} for inputs {_named(shapes)} in {precision}"
            )
        fidelity = _figures(output.astype(np.float64), expected.numpy().astype(np.float64), shapes)
        if not fidelity.relative_l2 <= TOLERANCE[precision]:
            raise ExportError(
                f"{spec.name} does not match PyTorch: relative L2 of {name} is {fidelity.relative_l2:.2e} "
                f"(at most {TOLERANCE[precision]:.0e}), largest difference {fidelity.max_abs:.2e}, "
                f"for inputs {_named(shapes)} in {precision}; --no-verify would keep the graph all the same"
            )
        figures.append(fidelity)
    return figures[0]


def _figures(
    output: NDArray[np.float64], expected: NDArray[np.float64], shapes: dict[str, tuple[int, ...]]
) -> Fidelity:
    difference = output - expected
    norm, expected_norm = float(np.linalg.norm(output)), float(np.linalg.norm(expected))
    return Fidelity(
        inputs=shapes,
        relative_l2=float(np.linalg.norm(difference)) / expected_norm,
        max_abs=float(np.abs(difference).max()),
        cosine=float(np.vdot(output, expected)) / (norm * expected_norm),
    )


def _named(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
