"""A request's prompts to what the U-Net is told in each row: hidden states, pooled states, sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sdrt.backends import Array
from sdrt.denoise import Row, guidance_rows
from sdrt.manifest import Conditioning
from sdrt.request import Request
from sdrt.text_encoder import EncodedPrompt, TextEncoder

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


class Conditioner:
    """The text encoders of a bundle, and the rest that its U-Net wants to know."""

    def __init__(self, encoders: Sequence[TextEncoder], settings: Conditioning) -> None:
        self._encoders = encoders
        self._settings = settings

    def rows(self, request: Request) -> tuple[list[Row], list[float]]:
        """The rows of one picture and their weights; the negative prompt comes first, if it has a weight."""
        positive = self._row(request, self._encode(request.prompt, "prompt"), _AESTHETIC_SCORE)
        width = self._settings.guidance_embedding
        if width is not None:
            return [{**positive, "timestep_cond": embed_guidance(request.guidance_scale, width)}], [1.0]
        if request.guidance_scale == 1.0:
            return guidance_rows(1.0, positive, positive)
        encoded = self._encode(request.negative_prompt, "negative prompt")
        negative = self._row(request, encoded, _NEGATIVE_AESTHETIC_SCORE)
        if self._settings.zeros_without_negative and not request.negative_prompt:
            zeros = {name: np.zeros_like(states) for name, states in negative.items() if name != "time_ids"}
            negative = {**negative, **zeros}
        return guidance_rows(request.guidance_scale, negative, positive)

    def close(self) -> None:
        """Free the text encoders."""
        for encoder in self._encoders:
            encoder.close()

    def _encode(self, prompt: str, called: str) -> list[EncodedPrompt]:
        return [encoder.encode(prompt, called=called) for encoder in self._encoders]

    def _row(self, request: Request, encoded: Sequence[EncodedPrompt], aesthetic_score: float) -> Row:
        row: dict[str, Array] = {
            # one width after the other: [L, D_1 + D_2]
            "encoder_hidden_states": np.concatenate([one.hidden_states for one in encoded], axis=-1)
        }
        for one in encoded:
            if one.pooled is not None:
                row["text_embeds"] = one.pooled
        if self._settings.time_ids is not None:
            row["time_ids"] = self._time_ids(request, aesthetic_score)
        return row

    def _time_ids(self, request: Request, aesthetic_score: float) -> Array:
        """Original size and crop of a picture that was never scaled or cropped, then what is wanted."""
        size = (request.height, request.width)
        last = size if self._settings.time_ids == "sizes" else (aesthetic_score,)
        return np.array([*size, 0, 0, *last], np.float32)
