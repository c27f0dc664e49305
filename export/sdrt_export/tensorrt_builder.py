"""TensorRT engines: an ONNX graph, parsed as it stands and built for this GPU.

Networks are strongly typed, so that an engine computes in the precisions of its graph: TensorRT 11 knows no
other way, and in 10 it is asked for. `Attention` nodes stay as they are; TensorRT may not have one kernel for
heads of 40, 80 and 160, those of Stable Diffusion 1.5.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from sdrt.backends.cuda import CudaDevice
from sdrt.backends.failures import one_line
from sdrt.backends.tensorrt_library import Complaints, is_out_of_memory, tensorrt_version
from sdrt.engines import EngineKind
from sdrt.errors import ExportError

from .engine_builders import BuilderOptions
from .engines import EngineTask, Progress
from .tensorrt_layers import count_layers
from .tensorrt_progress import BuildProgress
from .tensorrt_timing_cache import TimingCache

if TYPE_CHECKING:
    import tensorrt as trt

_DEFAULT_LEVEL = 3
_ATTENTION = 0.2  # seconds until Ctrl-C is seen, at most


class Builder:
    """Builds for the first GPU that CUDA shows."""

    kind: EngineKind = "tensorrt"

    def __init__(self, options: BuilderOptions) -> None:
        """Raises MissingExtraError if tensorrt or cuda-python is not installed, BackendUnavailableError."""
        self.version = tensorrt_version()
        self._device = CudaDevice("tensorrt")
        self.architecture = self._device.architecture
        self._options = options
        self._level = _DEFAULT_LEVEL if options.level is None else options.level
        self.settings = {"level": str(self._level), "refittable": str(options.refittable).lower()}
        if options.memory_limit is not None:
            self.settings["memory_limit"] = f"{options.memory_limit:g}"

    def build(self, task: EngineTask, target: Path, progress: Progress) -> dict[str, int]:
        """Write a plan to `target`; returns how many layers compute in which precision.

        Ctrl-C stops the builder at its next step.
        Raises ExportError if TensorRT refuses the graph or runs out of memory, or if the engine of an FP16
        graph has no half layers.
        """
        import tensorrt as trt

        complaints = Complaints()
        builder = trt.Builder(complaints.log)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        _parse(task.path, network, complaints)
        config = builder.create_builder_config()
        self._configure(config, task)
        _set_shapes(builder, network, config, task)
        timings = TimingCache(self.architecture, self.version)
        timings.attach(config)
        monitor = BuildProgress(task.graph, progress)
        config.progress_monitor = monitor.monitor
        plan = _interruptible(lambda: builder.build_serialized_network(network, config), monitor.stop)
        if plan is None:
            raise _refusal(task, complaints.take())
        timings.save(config)
        target.write_bytes(plan)
        layers = count_layers(plan, task, complaints)
        if _is_half(task) and not layers.get("float16"):
            raise ExportError(
                f"the engine of {task.graph} has no half layers although its graph is FP16: "
                f"{', '.join(f'{count} {name}' for name, count in layers.items()) or 'it tells of none'}; "
                f"this TensorRT {self.version} cannot be used"
            )
        return layers

    def _configure(self, config: trt.IBuilderConfig, task: EngineTask) -> None:
        import tensorrt as trt

        config.builder_optimization_level = self._level
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector knows names only
        config.max_aux_streams = 0  # engines share one stream and one block of memory
        config.clear_flag(trt.BuilderFlag.TF32)  # what is FP32 in the graph stays FP32
        if task.small:  # they look for NaN, which TensorRT would otherwise take for granted not to be
            config.set_flag(trt.BuilderFlag.STRICT_NANS)
        if self._options.refittable and not task.small:
            config.set_flag(trt.BuilderFlag.REFIT)
        if self._options.memory_limit is not None:
            limit = int(self._options.memory_limit * 1e9)
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, limit)


def _parse(path: Path, network: trt.INetworkDefinition, complaints: Complaints) -> None:
    import tensorrt as trt

    parser = trt.OnnxParser(network, complaints.log)
    if parser.parse_from_file(str(path)):  # it finds external weights beside the file
        return
    errors: list[trt.ParserError] = [parser.get_error(index) for index in range(parser.num_errors)]
    said = [f"{one.node_name()} ({one.node_operator()}): {one.desc()}" for one in errors]
    raise ExportError(f"TensorRT cannot read {path}: {one_line('; '.join(said) or complaints.take())}")


def _set_shapes(
    builder: trt.Builder, network: trt.INetworkDefinition, config: trt.IBuilderConfig, task: EngineTask
) -> None:
    """Fix the axes that have one size, so that nothing is left open for them; a profile for the others."""
    profile: trt.IOptimizationProfile = builder.create_optimization_profile()
    dynamic = False
    for index in range(network.num_inputs):
        tensor: trt.ITensor | None = network.get_input(index)
        assert tensor is not None
        wanted = task.inputs[tensor.name]
        if None in task.signature[0][tensor.name].shape:
            tensor.shape = [a if a == b else -1 for a, b in zip(wanted.min, wanted.max, strict=True)]
        if wanted.min != wanted.max:
            profile.set_shape(tensor.name, wanted.min, wanted.opt, wanted.max)
            dynamic = True
    if dynamic and config.add_optimization_profile(profile) < 0:
        raise ExportError(f"TensorRT does not take the shapes of {task.graph}: {dict(task.inputs)}")


def _interruptible(
    work: Callable[[], trt.IHostMemory | None], stop: Callable[[], None]
) -> trt.IHostMemory | None:
    """Run `work`, which holds no Python lock, beside this thread, where Ctrl-C arrives."""
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(work)
        try:
            while not wait([building], timeout=_ATTENTION).done:
                pass  # a signal that another thread got is seen here between two waits
        except KeyboardInterrupt:
            stop()
            wait([building])
            raise
    return building.result()


def _refusal(task: EngineTask, said: str) -> ExportError:
    mend = ""
    if is_out_of_memory(said):
        mend = "; close other programs, or build for smaller shapes or with --memory-limit GB"
    return ExportError(f"TensorRT built no engine of {task.graph}: {said}{mend}")


def _is_half(task: EngineTask) -> bool:
    specs = [spec for side in task.signature for spec in side.values()]
    return not task.small and any(spec.dtype == "float16" for spec in specs)
