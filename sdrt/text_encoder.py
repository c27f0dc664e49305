"""Prompts to encoder hidden states, remembered between requests."""

from __future__ import annotations

from collections import OrderedDict

from sdrt.backends import Array, Backend, Runtime
from sdrt.tokenizer import PromptTokenizer

_REMEMBERED = 64


class TextEncoder:
    """Tokenizer and CLIP text encoder of a bundle."""

    def __init__(self, runtime: Runtime, tokenizer: PromptTokenizer, graph: Backend) -> None:
        self._device = runtime.device
        self._tokenizer = tokenizer
        self._graph = graph
        self._buffers = {
            name: self._device.empty(tuple(axis or 1 for axis in spec.shape), spec.dtype)
            for name, spec in (*graph.inputs.items(), *graph.outputs.items())
        }
        graph.bind(self._buffers)
        self._encoded: OrderedDict[bytes, Array] = OrderedDict()

    def encode(self, prompt: str, *, called: str = "prompt") -> Array:
        """Last hidden states of one prompt: [L, D] in the encoder's precision.

        called: what messages call it.

        Prompts are encoded one at a time, so that a prompt's states do not depend on its neighbours.
        """
        ids = self._tokenizer.encode(prompt, called=called)
        key = ids.tobytes()
        if key not in self._encoded:
            self._device.upload(ids[None], self._buffers["input_ids"])
            self._graph.run()
            self._encoded[key] = self._device.download(self._buffers["last_hidden_state"])[0]
            if len(self._encoded) > _REMEMBERED:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(key)
        return self._encoded[key]

    def close(self) -> None:
        """Free the graph."""
        self._graph.close()
