"""Other weights for a built engine, as LoRA wants them: TensorRT calls it refitting."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sdrt.backends.protocol import Array
from sdrt.backends.tensorrt_library import Complaints
from sdrt.engines import EngineFolder
from sdrt.errors import EngineError
from sdrt.onnx_initializers import missing_weight, read_initializers

if TYPE_CHECKING:
    import tensorrt as trt


def replace_weights(
    engine: trt.ICudaEngine,
    complaints: Complaints,
    overrides: Mapping[str, Array],
    path: Path,
    graph: Path,
    folder: EngineFolder,
) -> None:
    """Put `overrides` (by initializer of `graph`) in the place of an engine's weights.

    Raises EngineError if the engine was not built for that, or has the weights in no shape to be replaced;
    BundleError if the graph has no such initializer.
    """
    import tensorrt as trt

    if not engine.refittable:
        raise EngineError(
            f"{path} has its weights built in and takes no LoRA or embedding; {folder.mend} --refittable"
        )
    stored = read_initializers(graph)
    refitter = trt.Refitter(engine, complaints.log)
    known = set(refitter.get_all_weights())
    # TensorRT reads the arrays only when it refits
    given = {name: np.ascontiguousarray(array) for name, array in overrides.items()}
    for name, array in given.items():
        if name not in stored:
            raise missing_weight(graph, name)
        if array.shape != stored[name].shape:
            raise EngineError(
                f"{path} was built for {name} of shape {list(stored[name].shape)}, not {list(array.shape)}; "
                "to use embeddings, export with --textual-inversion FILE --engine tensorrt"
            )
        if name not in known or not refitter.set_named_weights(name, trt.Weights(array)):
            raise EngineError(
                f"TensorRT cannot replace {name} in {path}: {complaints.take()}; run LoRAs with "
                "--backend onnxruntime"
            )
    # where weights were combined into one, TensorRT wants the others too
    for name in refitter.get_missing_weights():
        if name in stored:
            given[name] = stored[name].read()
            refitter.set_named_weights(name, trt.Weights(given[name]))
    if not refitter.refit_cuda_engine():
        raise EngineError(
            f"TensorRT cannot replace weights in {path}: {complaints.take()}; run LoRAs with "
            "--backend onnxruntime"
        )
