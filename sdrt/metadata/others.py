"""Programs whose texts sdrt does not read, known by what they write: a refusal says whose a picture is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LOOKED_AT = 4096  # characters of a text
# a key of the text chunks or of the JSON in one -> the program
_SIGNS: Mapping[str, str] = {
    "fooocus_scheme": "Fooocus",
    "fooocus": "Fooocus",
    "sui_image_params": "SwarmUI",
    "swarm": "SwarmUI",
    "novelai": "NovelAI",
    "easy diffusion": "Easy Diffusion",
    "use_stable_diffusion_model": "Easy Diffusion",
    "draw things": "Draw Things",
    "drawthings": "Draw Things",
    "midjourney": "Midjourney",
    "invokeai_graph": "InvokeAI",
    "dream": "InvokeAI before version 2",
    "workflow": "ComfyUI",
}
# of those that are read otherwise: what is not in the picture
_MISSING = {"InvokeAI": "without its settings", "ComfyUI": "without the graph that it ran"}


def described(program: str) -> str:
    """What to say of a picture of such a program."""
    missing = _MISSING.get(program)
    return (
        f"was made by {program}{', whose settings sdrt does not read' if missing is None else f' {missing}'}"
    )


def program_of(info: Mapping[Any, Any]) -> str | None:
    """Who wrote a picture, by its text chunks; None if nothing tells.

    info: whatever Pillow says of the file.
    """
    said = {str(key).lower(): value for key, value in info.items() if isinstance(value, str)}
    texts = " ".join(value[:_LOOKED_AT].lower() for value in said.values())
    return next((name for sign, name in _SIGNS.items() if sign in said or sign in texts), None)
