"""LoRAs that make a model need few steps, known by their names, and what their authors run them with.

LCM-LoRA: https://arxiv.org/abs/2311.05556; SDXL-Lightning: https://arxiv.org/abs/2402.13929; Hyper-SD:
https://arxiv.org/abs/2404.13686; TCD: https://arxiv.org/abs/2402.19159; DMD2: https://arxiv.org/abs/2405.14867.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TITLES = ("ss_output_name", "modelspec.title", "modelspec.description", "name")
_STEPS = re.compile(r"(?<!\d)(\d{1,2})[ _-]?steps?")


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """A kind of LoRA and the settings it is meant for, by keyword of a request."""

    kind: str
    settings: Mapping[str, object]


# a word of the name -> the kind, its settings, and its usual number of steps
_KINDS: tuple[tuple[str, str, Mapping[str, object], int], ...] = (
    (r"dmd2?", "DMD2", {"sampler": "lcm", "guidance_scale": 1.0}, 4),
    (r"lightning", "Lightning", {"sampler": "euler", "schedule": "sgm_uniform", "guidance_scale": 1.0}, 4),
    (
        r"hyper[ _-]?sd[a-z]*",
        "Hyper-SD",
        {"sampler": "ddim", "spacing": "trailing", "guidance_scale": 1.0},
        8,
    ),
    (r"tcd", "TCD", {"sampler": "tcd", "guidance_scale": 1.0}, 4),
    (r"lcm", "LCM", {"sampler": "lcm", "guidance_scale": 1.0}, 4),
)


def distilled(name: str, metadata: Mapping[str, str]) -> Distilled | None:
    """What a LoRA is, by the name of its file and the titles in its header; None if it is an ordinary one."""
    said = " ".join([name, *(metadata[key] for key in _TITLES if key in metadata)]).lower()
    for word, kind, settings, usual in _KINDS:
        if re.search(rf"(?<![a-z]){word}(?![a-z])", said):
            found = _STEPS.search(said)
            return Distilled(kind=kind, settings={**settings, "steps": int(found[1]) if found else usual})
    return None
