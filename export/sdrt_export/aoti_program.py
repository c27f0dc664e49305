"""A graph of a bundle as a PyTorch program, made from the bundle alone.

Its configs say which modules it is; its ONNX file has the weights under their names in the checkpoint, which
are only looked up here: a program is traced on memory that nobody touches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from diffusers.models.attention_processor import Attention, FusedAttnProcessor2_0
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from sdrt.backends.aoti_constants import Constant
from sdrt.backends.torch_failures import first_line
from sdrt.errors import ExportError
from sdrt.onnx_initializers import TRANSPOSED, read_initializers
from sdrt.profiles import ShapeRange
from sdrt.textual_inversion import TABLE

from .aoti_precision import keep_in_range, wide_parameters
from .aoti_small import SmallGraph
from .config_folder import read_config_folder
from .configs import TEXT_ENCODERS
from .engines import EngineTask
from .folder import build
from .graphs import PREFIX
from .noise import quiet
from .specs import Axes, Component, GraphSpec, graph_specs

ROOM = 1024  # rows of a table of token embeddings beyond the bundle's, for words of textual inversion
_FUSED = {".to_qkv.": (".to_q.", ".to_k.", ".to_v."), ".to_kv.": (".to_k.", ".to_v.")}
_ENOUGH = 64  # the least that a free axis is traced for


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is to be compiled, and the tensors that it must be given, by their names in it."""

    exported: ExportedProgram
    constants: Mapping[str, Constant]


def trace(task: EngineTask, *, device: str, channels_last: bool, fused_projections: bool) -> Program:
    """Trace one graph for the shapes of its task.

    channels_last: kernels of convolutions lie in memory that way. fused_projections: queries, keys and
    values of an attention are one product.
    Raises ExportError if the bundle's configs or weights do not make the graph, or torch cannot trace it.
    """
    if task.small:
        small = SmallGraph(task.path)
        return Program(
            exported=_export(task, _AsGraph(small, small.outputs, task), small.inputs, device), constants={}
        )
    spec, model = _component(task)
    if fused_projections:
        _fuse_projections(model)
    _make_room(model)
    with quiet():  # diffusers warns of modules that want FP32, of which there are none
        model.to(_dtype(task))
    wide = wide_parameters(task.path) if _dtype(task) == torch.float16 else set()
    if wide:
        keep_in_range(model, lambda name: not wide.isdisjoint(_sources(name)))
    _lay_out(model, device, torch.channels_last if channels_last else torch.contiguous_format)
    graph = spec.module(model).eval()
    # an ONNX graph takes one timestep for all rows as well; the runtime gives each row its own
    axes = {
        name: tuple("batch" if axis == "rows" else axis for axis in named)
        for name, named in spec.inputs.items()
    }
    exported = _export(task, _AsGraph(graph, spec.outputs, task), axes, device)
    return Program(exported=exported, constants=_constants(task, exported))


class _AsGraph(nn.Module):
    """A module that takes and gives what its graph does, in the graph's order and types.

    outputs: all that the module gives, by name.
    """

    def __init__(self, module: nn.Module, outputs: Iterable[str], task: EngineTask) -> None:
        super().__init__()
        self.network = module
        self._inputs = tuple(task.signature[0])
        self._outputs = tuple(outputs)
        self._types = {name: getattr(torch, one.dtype) for name, one in task.signature[1].items()}

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        made = self.network(**dict(zip(self._inputs, inputs, strict=True)))
        by_name: dict[str, Tensor] = dict(zip(self._outputs, made, strict=True))
        return tuple(by_name[name].to(dtype) for name, dtype in self._types.items())


def _component(task: EngineTask) -> tuple[GraphSpec, nn.Module]:
    """The spec of a graph and its empty component."""
    folder, manifest = task.bundle.path, task.bundle.manifest
    components: list[Component] = [name for name in TEXT_ENCODERS if name in manifest.graphs]
    configs = read_config_folder(folder, components=[*components, "unet"], vae="vae_decoder").configs
    specs = graph_specs(configs, deep_cache="unet_shallow" in manifest.graphs)
    spec = next(one for one in specs if one.name == task.graph)
    inputs, outputs = task.signature
    if list(spec.inputs) != list(inputs) or [name for name in spec.outputs if name in outputs] != list(
        outputs
    ):
        raise ExportError(
            f"the configs in {folder} make a {task.graph} of {', '.join(spec.inputs)}, its graph takes "
            f"{', '.join(inputs)}; export the checkpoint itself"
        )
    return spec, build(configs, spec.component)


def _dtype(task: EngineTask) -> torch.dtype:
    """What a graph computes in: the type of its first output."""
    dtype: torch.dtype = getattr(torch, next(iter(task.signature[1].values())).dtype)
    return dtype


def _fuse_projections(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, Attention):
            module.fuse_projections()
            module.set_processor(FusedAttnProcessor2_0())


def _make_room(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and f"{name}.weight".endswith(TABLE):
            module.weight = nn.Parameter(
                module.weight.new_empty(module.num_embeddings + ROOM, module.embedding_dim),
                requires_grad=False,
            )


def _lay_out(model: nn.Module, device: str, kernels: torch.memory_format) -> None:
    """Give an empty module parameters in memory that is never touched, and on the CPU never taken.

    kernels: how those of convolutions lie.
    """
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                layout = kernels if parameter.ndim == 4 else torch.contiguous_format
                untouched = torch.empty(
                    parameter.shape, dtype=parameter.dtype, device=device, memory_format=layout
                )
                module._parameters[name] = nn.Parameter(untouched, requires_grad=False)


def _export(task: EngineTask, module: nn.Module, axes: Mapping[str, Axes], device: str) -> ExportedProgram:
    ranges = _ranges(task, axes)
    free = {
        name: Dim(name, min=low, max=max(high, _ENOUGH))
        for name, (low, _, high) in ranges.items()
        if low < high
    }
    # torch.export takes a size of 1 for a constant
    sizes = {name: opt if low == high or opt > 1 else high for name, (low, opt, high) in ranges.items()}
    example, dynamic = [], []
    for name, named in axes.items():
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in named]
        dtype = getattr(torch, task.signature[0][name].dtype)
        example.append(torch.zeros(shape, dtype=dtype, device=device))
        dynamic.append(
            {at: free[axis] for at, axis in enumerate(named) if isinstance(axis, str) and axis in free}
        )
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(
                module.to(device), tuple(example), dynamic_shapes=(tuple(dynamic),), strict=False
            )
    except Exception as error:  # of many kinds: dynamo's, those of shapes, the operators'
        raise ExportError(f"torch.export cannot trace {task.graph}: {first_line(error)}") from error


def _ranges(task: EngineTask, axes: Mapping[str, Axes]) -> dict[str, tuple[int, int, int]]:
    """The least, the best and the largest size of each named axis."""
    found = {}
    for name, named in axes.items():
        wanted: ShapeRange = task.inputs[name]
        for axis, *sizes in zip(named, wanted.min, wanted.opt, wanted.max, strict=True):
            if isinstance(axis, str):
                found[axis] = (sizes[0], sizes[1], sizes[2])
    return found


def _constants(task: EngineTask, exported: ExportedProgram) -> dict[str, Constant]:
    """What the program reads beside its inputs, and where it comes from.

    Raises ExportError if the graph's file lacks a weight.
    """
    stored = read_initializers(task.path)
    signature = exported.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    found, missing = {}, []
    for node in exported.graph.nodes:
        name = names.get(node.name) if node.op == "placeholder" and node.users else None
        if name is None:
            continue
        tensor = exported.state_dict.get(name, exported.constants.get(name))
        assert tensor is not None
        about = {
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": tuple(tensor.shape),
            "stride": tensor.stride(),
        }
        if name not in exported.state_dict or name in signature.buffers:
            found[name] = Constant(**about, values=tensor.contiguous().cpu().numpy().tobytes())
            continue
        sources = _sources(name.removeprefix(f"network.{PREFIX}"))
        in_file = [
            next((one for one in (source, source + TRANSPOSED) if one in stored), None) for source in sources
        ]
        missing += [source for source, there in zip(sources, in_file, strict=True) if there is None]
        found[name] = Constant(**about, sources=tuple(filter(None, in_file)))
    if missing:
        raise ExportError(
            f"{task.path} has no weight {missing[0]} ({len(missing)} in all); another program made it, and "
            "PyTorch modules cannot be filled from it; export the checkpoint itself"
        )
    return found


def _sources(parameter: str) -> list[str]:
    """The parameters of the checkpoint that one of the program is made of."""
    for fused, parts in _FUSED.items():
        if fused in parameter:
            return [parameter.replace(fused, part) for part in parts]
    return [parameter]
