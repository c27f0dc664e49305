"""A request's prompts to what the U-Net is told in each row, and when that changes.

Rows are the negative prompt and the parts that AND joins (Liu et al. 2022, https://arxiv.org/abs/2206.01714):
with the predictions u and c_i, part weights w_i and guidance g,

    m = u + sum_i w_i g (c_i - u)

Each part, and the negative prompt, may be another text from some step on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from sdrt.backends import Array
from sdrt.manifest import Conditioning
from sdrt.prompt import Chunk, PartPlan, Segments, balance, emphasize
from sdrt.request import Request
from sdrt.samplers import SamplerTable
from sdrt.samples import Conditions, Row
from sdrt.text_encoder import TextEncoder

# what the refiner was trained to be told of good pictures and of bad ones; diffusers' defaults
_AESTHETIC_SCORE, _NEGATIVE_AESTHETIC_SCORE = 6.0, 2.5


def embed_guidance(guidance_scale: float, width: int) -> Array:
    """What a model distilled with guidance is told of it: [width] float32, sines of 1000 (guidance - 1).

    The sinusoidal embedding of Vaswani et al. 2017, with one frequency for each pair; as in Luo et al. 2023
    (https://arxiv.org/abs/2310.04378), section 4.3.
    """
    frequencies = np.exp(np.arange(width // 2) * (-np.log(10000.0) / (width // 2 - 1)))
    angles = 1000.0 * (guidance_scale - 1.0) * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)]).astype(np.float32)


# texts whose states are averaged, with their shares; mostly there is one
_Texts = tuple[tuple[Segments, float], ...]


@dataclass(frozen=True)
class _Weighted:
    """A row: what it says at each step, and its weights in the prediction with guidance and without."""

    plans: tuple[tuple[PartPlan, float], ...]
    weight: float
    unguided: float
    negative: bool = False

    def at(self, step: int) -> _Texts:
        """What a step, the first being 1, is told."""
        return tuple((plan.at(step), share) for plan, share in self.plans)


class Conditioner:
    """The text encoders of a bundle, and the rest that its U-Net wants to know."""

    def __init__(self, encoders: Sequence[TextEncoder], settings: Conditioning) -> None:
        self._encoders = encoders
        self._settings = settings

    def conditions(self, request: Request, table: SamplerTable) -> Conditions:
        """The rows of one picture, the negative prompt's first; those that weigh nothing are left out.

        Raises InputError for a prompt of too many chunks.
        """
        prompts = self._prompts(request)
        # AUTOMATIC1111 counts steps from 0 and takes the first text that lasts at least as long
        steps = [max(int(step), 1) for step in table.steps]
        told = [[(prompt.at(step), prompt.negative) for prompt in prompts] for step in steps]
        row = self._rows(request, dict.fromkeys(one for evaluation in told for one in evaluation))
        rows = [[row(*one) for one in evaluation] for evaluation in told]
        guided = [request.is_guided(int(step)) for step in table.steps]
        weights = [[one.weight if on else one.unguided for one in prompts] for on in guided]
        return Conditions(
            rows=rows[0],
            guidance=weights[0],
            changes={k: rows[k] for k in range(1, len(rows)) if told[k] != told[k - 1]},
            reweighed={k: weights[k] for k in range(1, len(rows)) if weights[k] != weights[k - 1]},
        )

    def close(self) -> None:
        """Free the text encoders."""
        for encoder in self._encoders:
            encoder.close()

    def _prompts(self, request: Request) -> list[_Weighted]:
        parts, negative, shares = request.prompts()
        scale = 1.0 if self._settings.guidance_embedding is not None else request.guidance_scale
        plain = [1.0] if shares else [part.weight for part in parts]
        weights = [scale * weight for weight in plain]
        rows = [tuple(zip(parts, shares, strict=True))] if shares else [((part, 1.0),) for part in parts]
        prompts = [
            _Weighted(((negative, 1.0),), 1.0 - sum(weights), 1.0 - sum(plain), negative=True),
            *map(_Weighted, rows, weights, plain),
        ]
        kept = [prompt for prompt in prompts if prompt.weight != 0.0 or prompt.unguided != 0.0]
        guided = len(kept) > 1 or kept[0].negative
        # an edit model's guidance towards its picture starts from the row of the negative prompt
        return prompts if self._settings.picture == "edit" and guided else kept

    def _rows(self, request: Request, texts: Iterable[tuple[_Texts, bool]]) -> Callable[[_Texts, bool], Row]:
        """What makes the row of texts, positive or negative; rows of all `texts` are equally long."""
        called = {
            text: "negative prompt" if negative else "prompt"
            for averaged, negative in texts
            for text, _ in averaged
        }
        distinct = list(called)
        chunked = {
            encoder: [encoder.chunks(text, called=name) for text, name in called.items()]
            for encoder in self._encoders
        }
        longest = max(len(chunks) for prompts in chunked.values() for chunks in prompts)
        windows = {
            encoder: dict(zip(distinct, balance(prompts, encoder.settings, longest), strict=True))
            for encoder, prompts in chunked.items()
        }

        @cache
        def row(averaged: _Texts, negative: bool) -> Row:
            encoded = [
                (
                    self._encode({encoder: own[text] for encoder, own in windows.items()}, request.clip_skip),
                    share,
                )
                for text, share in averaged
            ]
            made = encoded[0][0] if len(encoded) == 1 else _average(encoded)
            without = self._settings.zeros_without_negative and not request.negative_prompt
            if negative and (request.zero_negative or without):
                made = {name: np.zeros_like(states) for name, states in made.items()}
            if self._settings.time_ids is not None:
                made["time_ids"] = self._time_ids(request, negative)
            if self._settings.guidance_embedding is not None:
                made["timestep_cond"] = embed_guidance(
                    request.guidance_scale, self._settings.guidance_embedding
                )
            return made

        return row

    def _encode(self, windows: dict[TextEncoder, tuple[Chunk, ...]], clip_skip: int) -> dict[str, Array]:
        """One width after the other, one chunk after the other: [L, D_1 + D_2]; pooled: the first chunk's."""
        states, made = [], {}
        for encoder, chunks in windows.items():
            encoded = [encoder.encode(chunk.ids, clip_skip) for chunk in chunks]
            states.append(
                np.concatenate(
                    [
                        emphasize(one.hidden_states, chunk.weights)
                        for one, chunk in zip(encoded, chunks, strict=True)
                    ]
                )
            )
            if encoded[0].pooled is not None:
                made["text_embeds"] = encoded[0].pooled
        return {"encoder_hidden_states": np.concatenate(states, axis=-1), **made}

    def _time_ids(self, request: Request, negative: bool) -> Array:
        """Original size and crop of a picture that was never scaled or cropped, then what is wanted."""
        size = (request.height, request.width)
        score = _NEGATIVE_AESTHETIC_SCORE if negative else _AESTHETIC_SCORE
        last = size if self._settings.time_ids == "sizes" else (score,)
        return np.array([*size, 0, 0, *last], np.float32)


def _average(encoded: Sequence[tuple[dict[str, Array], float]]) -> dict[str, Array]:
    """Of hidden states, and of what stands for the whole prompt; the shares add up to 1."""
    shares = np.array([share for _, share in encoded], np.float32)
    return {
        name: np.tensordot(shares, np.stack([one[name] for one, _ in encoded]), 1) for name in encoded[0][0]
    }
