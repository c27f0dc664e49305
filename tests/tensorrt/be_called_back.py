"""Gives TensorRT's own classes what sdrt lets them call, and calls it as the library would."""

from __future__ import annotations

import sys

import numpy as np
import tensorrt_bindings as trt

sys.modules["tensorrt"] = trt  # the name it has where its libraries are

from sdrt.backends.tensorrt_library import Complaints, tensorrt_version  # noqa: E402
from sdrt_export import tensorrt_progress  # noqa: E402

print(tensorrt_version())
complaints = Complaints()
for severity in (trt.ILogger.VERBOSE, trt.ILogger.Severity.WARNING, trt.ILogger.Severity.ERROR):
    complaints.log.log(severity, f"said\nas {severity.name}")
print(complaints.take())

tensorrt_progress.SECONDS = 0
progress = tensorrt_progress.BuildProgress("unet", print)
progress.monitor.phase_start("Timing", None, 3)
print(progress.monitor.step_complete("Timing", 0))
progress.stop()
print(progress.monitor.step_complete("Timing", 1))
progress.monitor.phase_finish("Timing")

weights = trt.Weights(np.zeros((2, 3), np.float16))
print(weights.size, weights.dtype == trt.DataType.HALF)
print(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) > 0, list(trt.Dims((2, -1))))
