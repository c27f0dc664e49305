"""Angles stay float32 where OpenVINO computes in bfloat16.

bfloat16 has eight binary digits: it cannot tell timestep 998 from 999, and an angle of 999 is off by up to
two. The plugin rounds what sines and cosines are taken of like anything else: the U-Net of Stable Diffusion
1.5 (random weights) was 16 % off float32's answer at timestep 999, and 1.4 % with angles in float32. So sines
are computed by a graph of their own, in float32, and their results are inputs of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

_WAVES = ("Sin", "Cos")


def cut_waves(model: openvino.Model) -> openvino.Model | None:
    """Take the sines and cosines out of a model: the model of those, None if there are none.

    Its outputs have names, which are those of inputs that `model` has from now on.
    """
    import openvino
    from openvino import op

    waves = [one for one in model.get_ordered_ops() if one.get_type_name() in _WAVES]
    if not waves:
        return None
    results, inputs = [], []
    for i, wave in enumerate(waves):
        source, name = wave.output(0), f"sdrt.wave.{i}"
        readers = source.get_target_inputs()
        given = op.Parameter(source.get_element_type(), source.get_partial_shape())
        given.output(0).set_names({name})
        for reader in readers:
            reader.replace_source_output(given.output(0))
        source.set_names({name})
        results.append(op.Result(source))
        inputs.append(given)
    model.add_parameters(inputs)
    model.validate_nodes_and_infer_types()
    return openvino.Model(results, _parameters_of(model, waves), "waves")


def _parameters_of(model: openvino.Model, nodes: list[openvino.Node]) -> list[openvino.Node]:
    """The parameters of a model that these nodes are computed from."""
    seen: dict[str, openvino.Node] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node.get_name() not in seen:
            seen[node.get_name()] = node
            waiting += [source.get_source_output().get_node() for source in node.inputs()]
    return [one for one in model.get_parameters() if one.get_name() in seen]


class Waves:
    """The graph of sines, run before the one that reads them."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._compiled = compiled
        self._inputs = {name for port in compiled.inputs for name in port.names}
        self._outputs = [port.any_name for port in compiled.outputs]
        self._request = compiled.create_infer_request()

    def bind(self, tensors: Mapping[str, openvino.Tensor]) -> None:
        """Read from these from now on; those that it does not take are passed over."""
        self._request = self._compiled.create_infer_request()
        for name, tensor in tensors.items():
            if name in self._inputs:
                self._request.set_tensor(name, tensor)

    def run(self, reader: openvino.InferRequest) -> None:
        """Compute them, and hand them to the request that reads them."""
        self._request.infer()
        for name in self._outputs:
            reader.set_tensor(name, self._request.get_tensor(name))
