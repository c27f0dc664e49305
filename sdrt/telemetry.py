"""Usage reporting of third-party libraries, disabled before any of them is imported.

sdrt sends nothing, and neither may a library that it runs. Left alone, they do:

- onnxruntime 1.31 writes ids and a database to ~/.cache/Microsoft/DeveloperTools/.onnxruntime and uploads
  events. `onnxruntime.disable_telemetry_events()` comes too late for the files.
- OpenVINO with its companion package openvino-telemetry writes ~/intel/openvino_ga_cid and ~/intel/stats on
  import and posts an event to Google Analytics. It has no environment variable; without the package, OpenVINO
  and nncf use stubs of their own.
- huggingface_hub, with the hf_xet, transformers and diffusers that call it, adds the versions of installed
  libraries to its requests, looks up which program it was started by, and reports transfers.

torch, onnx, onnxscript, tokenizers and safetensors report nothing, in the versions of constraints.txt.

Importing `sdrt`, `sdrt_export` or `sdrt_bench` calls `disable`, so that no module has to remember it.
Libraries imported before sdrt have read their settings already: import sdrt first.
"""

from __future__ import annotations

import os
import sys

VARIABLES = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime reads it when its library is loaded
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub and hf_xet
    "DISABLE_TELEMETRY": "1",  # diffusers and transformers of earlier versions, in the environments of peers
    "DO_NOT_TRACK": "1",  # whatever else follows https://donottrack.sh
}
BLOCKED = "openvino_telemetry"


def disable() -> None:
    """Set the variables, for this process and those that it starts, and make openvino-telemetry unimportable.

    A user's own value is replaced as well: what disables reporting keeps its meaning, and one that enables it
    would send something from a program that promises to send nothing. Nothing else of the environment is
    touched, `HF_HUB_OFFLINE` and `HF_TOKEN` least of all.
    """
    os.environ.update(VARIABLES)
    sys.modules.setdefault(BLOCKED, None)  # type: ignore[arg-type]  # None: importing it raises ImportError
