"""Prompts to encoder hidden states, remembered between requests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sdrt.backends import Array, Backend, Runtime
from sdrt.errors import ComputeError
from sdrt.manifest import TextSettings
from sdrt.prompt import Chunk, Segments, chunk_segments
from sdrt.tokenizer import PromptTokenizer

_REMEMBERED = 64


@dataclass(frozen=True, kw_only=True)
class EncodedPrompt:
    """hidden_states: [L, D]; pooled: [P], of encoders whose U-Net takes it. In the encoder's precision."""

    hidden_states: Array
    pooled: Array | None


class TextEncoder:
    """One tokenizer and CLIP text encoder of a bundle."""

    def __init__(
        self, runtime: Runtime, tokenizer: PromptTokenizer, graph: Backend, settings: TextSettings
    ) -> None:
        self._device = runtime.device
        self._tokenizer = tokenizer
        self.settings = settings
        self._graph = graph
        self._buffers = {
            name: self._device.empty(tuple(axis or 1 for axis in spec.shape), spec.dtype)
            for name, spec in (*graph.inputs.items(), *graph.outputs.items())
        }
        graph.bind(self._buffers)
        self._encoded: OrderedDict[tuple[int, ...], EncodedPrompt] = OrderedDict()

    def chunks(self, text: Segments, *, called: str = "prompt") -> tuple[Chunk, ...]:
        """The windows of a text. called: what messages call it."""
        tokenizer = self._tokenizer
        return chunk_segments(
            text,
            tokenizer.tokens,
            self.settings,
            words=tokenizer.words,
            comma_id=tokenizer.comma_id,
            called=called,
        )

    def encode(self, ids: Sequence[int], clip_skip: int) -> EncodedPrompt:
        """Hidden states of one window of max_length tokens.

        clip_skip: which layer's, counted from the last, 1. Windows are encoded one at a time, so that a
        prompt's states do not depend on its neighbours.
        Raises ComputeError naming the graph if they are NaN or Inf.
        """
        key = (*ids, clip_skip)
        if key not in self._encoded:
            self._device.upload(np.array([ids]), self._buffers["input_ids"])
            self._graph.run()
            pooled = self.settings.pooled
            self._encoded[key] = EncodedPrompt(
                hidden_states=self._output(self.settings.layer(clip_skip)),
                pooled=None if pooled is None else self._output(pooled),
            )
            if len(self._encoded) > _REMEMBERED:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(key)
        return self._encoded[key]

    def close(self) -> None:
        """Free the graph."""
        self._graph.close()

    def _output(self, name: str) -> Array:
        states = np.asarray(self._device.download(self._buffers[name])[0])
        if not np.isfinite(states).all():
            raise ComputeError(
                f"the {self.settings.graph} graph gave NaN or Inf as {name}; leave out LoRAs and embeddings "
                "that may be too strong, or try a bundle exported with --precision fp32"
            )
        return states
