"""TensorRT as far as sdrt calls it, over fake_cuda: an engine is its ONNX file, and onnxruntime runs it.

Strict where TensorRT is: shapes lie in the profile, a context is run once before it is captured and is not
changed while a captured graph of it lives, memory for activations is there and belongs to whoever runs.
"""

from __future__ import annotations

import enum
import json
import math
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
from fake_cuda import FakeCuda

from sdrt.backends.host import HostBuffer
from sdrt.backends.onnxruntime import Runtime as OnnxRuntime
from sdrt.onnx_initializers import read_initializers
from sdrt.onnx_signature import read_signature

ACTIVATIONS = {"unet": 3 * 2**20, "vae_decoder": 5 * 2**20}  # bytes that an engine wants; 1 MB for others


def install(monkeypatch, cuda: FakeCuda, version: str = "10.16.1.11") -> ModuleType:
    """Let `import tensorrt` find a fake of some version. Its `fake` holds what tests may set and see."""
    module = make_tensorrt(cuda, version)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


def make_tensorrt(cuda: FakeCuda, version: str) -> ModuleType:
    trt = ModuleType("tensorrt")
    trt.__spec__ = ModuleSpec("tensorrt", None)  # torch asks whether there is one
    trt.__version__ = version
    trt.fake = fake = SimpleNamespace(
        errors=[],  # what the parser says of the next graph
        refusal=None,  # what the builder says in place of building
        while_building=lambda: None,  # called in each step of a build
        precision=None,  # what inspectors say of all layers
        capturable=True,
        devices_cache=b"timings",  # what a timing cache of this device starts with
        configs=[],
        contexts=0,
        refits=0,
    )

    class ILogger:
        class Severity(enum.IntEnum):
            INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

        def log(self, severity, msg):
            raise NotImplementedError

    class BuilderFlag(enum.Enum):
        REFIT, TF32, STRICT_NANS = range(3)

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        STRONGLY_TYPED = 1

    class MemoryPoolType(enum.Enum):
        WORKSPACE = 0

    class ProfilingVerbosity(enum.Enum):
        LAYER_NAMES_ONLY, DETAILED, NONE = range(3)

    class LayerInformationFormat(enum.Enum):
        JSON = 1

    class ExecutionContextAllocationStrategy(enum.Enum):
        STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)

    class IHostMemory(bytes):
        @property
        def nbytes(self):
            return len(self)

    class IProgressMonitor:
        def phase_start(self, phase_name, parent_phase, num_steps):
            raise NotImplementedError

        def step_complete(self, phase_name, step):
            raise NotImplementedError

        def phase_finish(self, phase_name):
            raise NotImplementedError

    class ParserError:
        def __init__(self, text):
            self._text = text

        def desc(self):
            return self._text

        def node_name(self):
            return "node_7"

        def node_operator(self):
            return "Attention"

    class ITensor:
        def __init__(self, name, shape):
            self.name, self.shape = name, shape

    class INetworkDefinition:
        def __init__(self, flags):
            assert flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            self._path, self._inputs = None, []

        @property
        def num_inputs(self):
            return len(self._inputs)

        def get_input(self, index):
            return self._inputs[index]

    class OnnxParser:
        def __init__(self, network, logger):
            assert isinstance(logger, ILogger)
            self._network, self._errors = network, []

        def parse_from_file(self, model):
            self._errors, fake.errors = fake.errors, []
            inputs, _ = read_signature(Path(model))
            self._network._path = model
            self._network._inputs = [
                ITensor(name, tuple(-1 if axis is None else axis for axis in spec.shape))
                for name, spec in inputs.items()
            ]
            return not self._errors

        @property
        def num_errors(self):
            return len(self._errors)

        def get_error(self, index):
            return ParserError(self._errors[index])

    class IOptimizationProfile:
        def __init__(self):
            self._shapes = {}

        def set_shape(self, input, min, opt, max):
            self._shapes[input] = [list(min), list(opt), list(max)]

    class ITimingCache:
        def __init__(self, content):
            self._content = content

        def serialize(self):
            return IHostMemory(self._content)

    class IBuilderConfig:
        def __init__(self):
            self._flags = {BuilderFlag.TF32}
            self._limits, self._profiles, self._cache = {}, [], None
            self.builder_optimization_level = 3
            self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
            self.max_aux_streams = None
            self.progress_monitor = None
            fake.configs.append(self)

        def set_flag(self, flag):
            self._flags.add(flag)

        def clear_flag(self, flag):
            self._flags.discard(flag)

        def set_memory_pool_limit(self, pool, pool_size):
            self._limits[pool] = pool_size

        def add_optimization_profile(self, profile):
            self._profiles.append(profile)
            return len(self._profiles) - 1

        def create_timing_cache(self, serialized_timing_cache):
            return ITimingCache(bytes(serialized_timing_cache))

        def set_timing_cache(self, cache, ignore_mismatch):
            if cache._content and not cache._content.startswith(fake.devices_cache):
                return False
            self._cache = cache
            return True

        def get_timing_cache(self):
            return self._cache

    class Builder:
        def __init__(self, logger):
            assert isinstance(logger, ILogger)
            self._logger = logger

        def create_network(self, flags=0):
            return INetworkDefinition(flags)

        def create_builder_config(self):
            return IBuilderConfig()

        def create_optimization_profile(self):
            return IOptimizationProfile()

        def build_serialized_network(self, network, config):
            monitor, steps = config.progress_monitor, 3
            monitor.phase_start("Building Engine", None, steps)
            for step in range(steps):
                fake.while_building()
                if not monitor.step_complete("Building Engine", step):
                    return None
            monitor.phase_finish("Building Engine")
            if fake.refusal:
                self._logger.log(ILogger.Severity.WARNING, "it is late")
                self._logger.log(ILogger.Severity.ERROR, fake.refusal)
                return None
            config._cache._content = fake.devices_cache + b" measured"
            profile = config._profiles[0]._shapes if config._profiles else {}
            shapes = {}
            for tensor in network._inputs:
                fixed = [list(tensor.shape)] * 3
                shapes[tensor.name] = profile[tensor.name] if -1 in tensor.shape else fixed
            plan = {
                "version": version,
                "path": network._path,
                "shapes": shapes,
                "refit": BuilderFlag.REFIT in config._flags,
                "detailed": config.profiling_verbosity is ProfilingVerbosity.DETAILED,
            }
            return IHostMemory(json.dumps(plan).encode())

    class IExecutionContext:
        def __init__(self, engine):
            self._engine = engine
            self._shapes, self._addresses = {}, {}
            self._memory = None
            self._prepared = False
            self._captured = []
            self.nvtx_verbosity = ProfilingVerbosity.DETAILED
            fake.contexts += 1

        def _change(self):
            assert not any(graph.alive for graph in self._captured), "changed while a captured graph lives"
            self._captured = []
            self._prepared = False

        def set_input_shape(self, name, shape):
            self._change()
            low, _, high = self._engine._plan["shapes"][name]
            fits = len(shape) == len(low) and all(
                a <= b <= c for a, b, c in zip(low, shape, high, strict=True)
            )
            if not fits:
                self._engine._logger.log(ILogger.Severity.ERROR, f"{shape} is not in the profile")
                return False
            self._shapes[name] = tuple(shape)
            return True

        def set_tensor_address(self, name, memory):
            self._change()
            self._addresses[name] = memory
            return True

        def set_device_memory(self, memory, size):
            self._change()
            assert size >= self._engine.device_memory_size_v2 and memory % 256 == 0
            self._memory = memory

        def get_tensor_shape(self, name):
            if name in self._shapes:
                return list(self._shapes[name])
            return list(self._engine._output_shapes(self._shapes)[name])

        def execute_async_v3(self, stream_handle):
            assert stream_handle == 7 and self._memory is not None
            if cuda.capture is not None:
                assert self._prepared, "captured before it was run with these shapes"
                if not fake.capturable:
                    self._engine._logger.log(ILogger.Severity.ERROR, "not permitted when stream is capturing")
                    return False
                self._captured.append(cuda.capture)
            self._prepared = True
            engine, addresses, memory = self._engine, dict(self._addresses), self._memory
            shapes = {**self._shapes, **engine._output_shapes(self._shapes)}
            cuda.enqueue(lambda: engine._compute(addresses, shapes, memory))
            return True

    class EngineInspector:
        def __init__(self, engine):
            self._engine, self.execution_context = engine, None

        def get_engine_information(self, format):
            assert format is LayerInformationFormat.JSON
            if not self._engine._plan["detailed"]:
                return json.dumps({"Layers": ["conv_in", "conv_out"], "Bindings": []})
            told = {"float32": "Float", "float16": "Row major linear FP16 format"}
            known = self.execution_context is not None and self.execution_context._shapes
            layers = [
                {
                    "Name": name,
                    "LayerType": "gemm",
                    "Outputs": [
                        {
                            "Name": name,
                            "Format/Datatype": (fake.precision or told.get(spec.dtype, spec.dtype))
                            if known
                            else "N/A due to dynamic shapes",
                        }
                    ],
                }
                for name, spec in self._engine._outputs.items()
            ]
            return json.dumps({"Layers": layers, "Bindings": []})

    class ICudaEngine:
        def __init__(self, plan, logger):
            self._plan, self._logger = plan, logger
            self._path = Path(plan["path"])
            self._inputs, self._outputs = read_signature(self._path)
            self._known_shapes = {}
            self._load({})

        def _load(self, weights):
            self._weights = weights
            self._graph = OnnxRuntime().load(self._path, overrides=weights)

        @property
        def refittable(self):
            return self._plan["refit"]

        @property
        def num_io_tensors(self):
            return len(self._inputs) + len(self._outputs)

        def get_tensor_name(self, index):
            return [*self._inputs, *self._outputs][index]

        @property
        def device_memory_size_v2(self):
            return ACTIVATIONS.get(self._path.parent.name, 2**20)

        def create_execution_context(self, strategy=ExecutionContextAllocationStrategy.STATIC):
            assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
            return IExecutionContext(self)

        def create_engine_inspector(self):
            return EngineInspector(self)

        def _output_shapes(self, shapes):
            key = tuple(shapes.items())
            if key not in self._known_shapes:
                session = self._graph._session
                feeds = {name: np.zeros(shapes[name], spec.dtype) for name, spec in self._inputs.items()}
                given = session.run(list(self._outputs), feeds)
                self._known_shapes[key] = {
                    name: one.shape for name, one in zip(self._outputs, given, strict=True)
                }
            return self._known_shapes[key]

        def _compute(self, addresses, shapes, memory):
            if memory:
                cuda.view(memory, self.device_memory_size_v2)[:] = 0xFF
            buffers = {}
            for name, spec in {**self._inputs, **self._outputs}.items():
                size = math.prod(shapes[name]) * np.dtype(spec.dtype).itemsize
                view = cuda.view(addresses[name], size).view(spec.dtype).reshape(shapes[name])
                buffers[name] = HostBuffer(view)
            self._graph.bind(buffers)
            self._graph.run()

    class Runtime:
        def __init__(self, logger):
            assert isinstance(logger, ILogger)
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine):
            try:
                plan = json.loads(bytes(serialized_engine))
                if plan["version"] != version:
                    raise ValueError(f"built with {plan['version']}, this is {version}")
            except ValueError as error:
                self._logger.log(ILogger.Severity.ERROR, f"Serialization assertion failed: {error}")
                return None
            return ICudaEngine(plan, self._logger)

    class Weights:
        def __init__(self, a):
            self._array = a

    class Refitter:
        def __init__(self, engine, logger):
            assert isinstance(logger, ILogger)
            self._engine, self._given = engine, {}
            self._stored = read_initializers(engine._path)

        def get_all_weights(self):
            return list(self._stored)

        def set_named_weights(self, name, weights):
            stored = self._stored[name]
            array = weights._array
            if array.size != math.prod(stored.shape) or array.dtype != stored.dtype:
                return False
            self._given[name] = array
            return True

        def get_missing_weights(self):
            """A weight's bias, as where both were fused."""
            partners = {name.replace(".weight", ".bias") for name in self._given}
            return sorted(partners & self._stored.keys() - self._given.keys())

        def refit_cuda_engine(self):
            if self.get_missing_weights():
                return False
            fake.refits += 1
            self._engine._load({**self._engine._weights, **{k: v.copy() for k, v in self._given.items()}})
            return True

    for one in list(locals().values()):
        if isinstance(one, type):
            setattr(trt, one.__name__, one)
    return trt
