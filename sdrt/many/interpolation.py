"""From one prompt to another, and from one noise to another, frame by frame."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np

from sdrt.errors import InputError
from sdrt.many.jobs import Asked
from sdrt.request import MAX_COUNT, SEEDS


def ask_frames(start: str, end: str, frames: int, settings: Mapping[str, Any]) -> list[Asked]:
    """The settings of each frame, the first of which is `start` and the last `end`.

    Embeddings go straight from one to the other. With a variation seed, noise goes to that seed's along the
    sphere (`sdrt.noise.slerp`); without one all frames have the same noise.
    Raises InputError for less than two frames, more than the limit, and settings that say otherwise.
    """
    if frames < 2:
        raise InputError(f"frames is {frames}; expected 2 or more, both ends among them")
    if settings.get("limits", True) and frames > MAX_COUNT:
        raise InputError(f"frames is {frames}, the limit is {MAX_COUNT}; lift the limit with --no-limits")
    if settings.get("prompt") or settings.get("blend"):
        raise InputError("--interpolate has its two prompts; leave PROMPT and --blend out")
    if settings.get("count", 1) != 1:
        raise InputError("each frame is one picture; leave --count out, or say --frames")
    if settings.get("variation_strength") is not None:
        raise InputError("the frames vary from none to all; leave --variation-strength out")
    if settings.get("seed") in (None, -1):
        settings = {**settings, "seed": secrets.randbelow(SEEDS)}
    asked = []
    for number, share in enumerate(np.linspace(0.0, 1.0, frames).tolist(), 1):
        own: dict[str, Any] = {"blend": ((start, 1.0 - share), (end, share))}
        if settings.get("variation_seed") is not None:
            own["variation_strength"] = share
        asked.append(Asked(settings={**settings, **own}, where=f"frame {number}", columns={"frame": number}))
    return asked
