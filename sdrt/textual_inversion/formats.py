"""What an embedding file holds, in the layouts of those who write them.

| layout | written by |
|---|---|
| `{"<word>": [n, D] or [D]}` | diffusers, kohya's `emb_params` in .safetensors |
| `{"string_to_param": {"*": [n, D]}, "name": word}` | the first implementation, AUTOMATIC1111 |
| `{"clip_l": [n, 768], "clip_g": [n, 1280]}` | Stable Diffusion XL, all trainers |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sdrt.backends import Array
from sdrt.errors import InputError
from sdrt.manifest import TextEncoderName

NAMELESS = ("emb_params", "*")
_ENCODERS: Mapping[str, TextEncoderName] = {
    "clip_l": "text_encoder",
    "clip_g": "text_encoder_2",
    # diffusers' first scripts for XL
    "text_encoders_0": "text_encoder",
    "text_encoders_1": "text_encoder_2",
}


def read_layout(content: Any) -> tuple[str | None, dict[TextEncoderName, Array]]:
    """The word that the file is for, if it names one, and vectors [n, D] float32 for each text encoder.

    Raises InputError, without the file's name, if it is in none of the layouts.
    """
    if not isinstance(content, Mapping) or not content:
        raise InputError("it holds no named vectors")
    if "string_to_param" in content:
        name, tensors = content.get("name"), content["string_to_param"]
        if not isinstance(tensors, Mapping) or len(tensors) != 1:
            raise InputError("its string_to_param is not one tensor")
        return name if isinstance(name, str) else None, {"text_encoder": _vectors(*tensors.values())}
    if content.keys() <= _ENCODERS.keys():
        return None, {_ENCODERS[key]: _vectors(tensor) for key, tensor in content.items()}
    if len(content) == 1:
        ((name, tensor),) = content.items()
        named = isinstance(name, str) and name not in NAMELESS
        return name if named else None, {"text_encoder": _vectors(tensor)}
    names = ", ".join(sorted(map(str, content))[:3])
    raise InputError(
        f"it holds {names} and so on: expected one tensor, string_to_param, or clip_l and clip_g"
    )


def _vectors(tensor: Any) -> Array:
    if not isinstance(tensor, np.ndarray) or tensor.dtype != np.float32 or tensor.ndim not in (1, 2):
        raise InputError("what it holds are not vectors of floating-point numbers")
    vectors = np.atleast_2d(tensor)
    if not vectors.size or not np.isfinite(vectors).all():
        raise InputError("its vectors are empty, NaN or infinite")
    return vectors
