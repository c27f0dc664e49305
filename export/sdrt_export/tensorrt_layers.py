"""What a built TensorRT engine computes in, as its inspector tells."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sdrt.backends.tensorrt_library import Complaints
from sdrt.errors import ExportError

from .engines import EngineTask

if TYPE_CHECKING:
    import tensorrt as trt

# `Half` for values inside an engine, `Row major linear FP16 format` for those at its edges
_PRECISIONS = (
    ("bfloat16", re.compile(r"BF16|BFLOAT16", re.IGNORECASE)),
    ("float16", re.compile(r"HALF|FP16|FLOAT16", re.IGNORECASE)),
    ("float8", re.compile(r"FP8|FLOAT8", re.IGNORECASE)),
    ("float32", re.compile(r"FLOAT|FP32", re.IGNORECASE)),
    ("int8", re.compile(r"INT8", re.IGNORECASE)),
)
_COMPUTES_NOTHING = {"Reformat", "NoOp", "Constant", "Shuffle", "Signal", "Wait"}


def count_layers(plan: trt.IHostMemory, task: EngineTask, complaints: Complaints) -> dict[str, int]:
    """Layers of an engine by the precision of what they give.

    Raises ExportError if the engine cannot be loaded.
    """
    import tensorrt as trt

    runtime = trt.Runtime(complaints.log)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise ExportError(f"TensorRT does not load the engine of {task.graph}: {complaints.take()}")
    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    if context is None:
        raise ExportError(f"TensorRT cannot run the engine of {task.graph}: {complaints.take()}")
    for name, wanted in task.inputs.items():
        context.set_input_shape(name, wanted.opt)
    inspector: trt.EngineInspector = engine.create_engine_inspector()
    inspector.execution_context = context  # without one, layers of free shapes tell no format
    told = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return precisions(json.loads(told))


def precisions(information: Mapping[str, Any]) -> dict[str, int]:
    """Count the layers of an inspector's JSON; layers without floating values are `other`."""
    layers = [one for one in information.get("Layers", []) if isinstance(one, dict)]
    computing = [one for one in layers if one.get("LayerType") not in _COMPUTES_NOTHING]
    return dict(Counter(map(_precision, computing)).most_common())


def _precision(layer: Mapping[str, Any]) -> str:
    formats = " ".join(str(value.get("Format/Datatype", "")) for value in layer.get("Outputs", []))
    return next((name for name, pattern in _PRECISIONS if pattern.search(formats)), "other")
