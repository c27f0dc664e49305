"""A GPU made of host memory, and an onnxruntime whose providers for it run on the CPU.

Everything but the kernels is real: our options, bindings, checks and the order of calls.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import onnxruntime

from sdrt.backends.host import HostDevice

CPU = "CPUExecutionProvider"
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
STREAM = 0x5EED


class FakeCudaDevice(HostDevice):
    name = "cuda"
    stream = STREAM


class Binding:
    """Takes addresses of the fake device, which are the host's."""

    def __init__(self, session, binding):
        self._session, self.real = session, binding

    def bind_input(self, name, device, *rest):
        assert (device, rest[0]) == ("cuda", 0)
        self.real.bind_input(name, "cpu", *rest)

    def bind_output(self, name, device, *rest):
        assert (device, rest[0]) == ("cuda", 0)
        self.real.bind_output(name, "cpu", *rest)


def install(monkeypatch, *, takes=lambda op, provider: True, loads=lambda provider: True, refuse=None):
    """Make the GPU and its providers appear. Returns the sessions that are opened, in order.

    takes: whether a provider takes an operator; else the next one does. loads: whether its library is there.
    refuse: raises for the options of a session that onnxruntime would refuse.
    """
    opened = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, model, options, providers, enable_fallback):
            assert enable_fallback == 0
            if refuse is not None:
                refuse(dict(providers))
            super().__init__(model, options, providers=[CPU], enable_fallback=0)
            self.asked = dict(providers)
            self.graph_ids, self.released = [], []
            opened.append(self)

        def get_providers(self):
            return [name for name in (*self.asked, CPU) if loads(name)]

        def get_provider_graph_assignment_info(self):
            order = [*self.asked, CPU]
            for part in super().get_provider_graph_assignment_info():
                for node in part.get_nodes():
                    name = next(one for one in order if takes(node.op_type, one))
                    yield SimpleNamespace(ep_name=name, get_nodes=lambda node=node: [node])

        def io_binding(self):
            return Binding(self, super().io_binding())

        def run_with_iobinding(self, binding, run_options):
            self.graph_ids.append(run_options.get_run_config_entry("gpu_graph_id"))
            assert run_options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
            super().run_with_iobinding(binding.real, run_options)

        def release_captured_graph(self, number):
            self.released.append(number)

    module = ModuleType("sdrt.backends.cuda")
    module.CudaDevice = FakeCudaDevice
    monkeypatch.setitem(sys.modules, "sdrt.backends.cuda", module)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    available = [TENSORRT, CUDA, CPU]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    return opened
