"""Options of onnxruntime's providers for NVIDIA GPUs.

https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#configuration-options
https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html#configurations
"""

from __future__ import annotations

from collections.abc import Mapping

from sdrt.profiles import Shape, ShapeRange


def cuda_options(index: int, stream: int, *, half: bool, small: bool, capture: bool) -> dict[str, str]:
    """Of the CUDA provider.

    index: of the device. stream: address of the one that all work is queued on. half: the network computes
    in FP16. small: a handful of operators. capture: prepare for CUDA graphs.
    """
    return {
        "device_id": str(index),
        "user_compute_stream": str(stream),
        # FP32 with TF32's ten binary digits after the point is no FP32
        "use_tf32": "0",
        # tensor cores convolve channels-last, in FP16
        "prefer_nhwc": _flag(half),
        # tries every algorithm for every shape, in the first run over it
        "cudnn_conv_algo_search": "HEURISTIC" if small else "EXHAUSTIVE",
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": _flag(capture),
    }


def tensorrt_options(index: int, stream: int, *, half: bool) -> dict[str, str]:
    """Of the TensorRT provider: FP16 for graphs in FP16 and for no others, norms in FP32."""
    return {
        "device_id": str(index),
        "user_compute_stream": str(stream),
        "trt_fp16_enable": _flag(half),
        "trt_layer_norm_fp32_fallback": _flag(half),
    }


def profile_options(ranges: Mapping[str, ShapeRange]) -> dict[str, str]:
    """The shapes that engines are built for, as `name:1x4x64x64,other:2x77x768`."""
    return {
        f"trt_profile_{corner}_shapes": ",".join(
            f"{name}:{_written(getattr(wanted, corner))}" for name, wanted in ranges.items() if wanted.min
        )
        for corner in ("min", "opt", "max")
    }


def _written(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _flag(on: bool) -> str:
    return str(int(on))
