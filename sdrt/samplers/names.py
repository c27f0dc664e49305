"""Samplers by the names that people know them by."""

from __future__ import annotations

import re

from sdrt.errors import UnknownNameError
from sdrt.samplers.catalogue import SAMPLERS, Sampler
from sdrt.samplers.schedule import SigmaSchedule

# what a name may end in to ask for noise levels; `_k` is InvokeAI's
_ENDINGS: dict[str, SigmaSchedule] = {
    "karras": "karras",
    "k": "karras",
    "exponential": "exponential",
    "beta": "beta",
}


def find_sampler(name: str) -> tuple[Sampler, SigmaSchedule | None]:
    """The sampler of that name in any tool's spelling, and the noise levels that the name asks for.

    `DPM++ 2M Karras`, `dpmpp_2m_karras` and `DPMSolverMultistepScheduler` all name `dpmpp_2m`.
    Raises UnknownNameError with the nearest names.
    """
    key = _spelling(name)
    if key in _BY_SPELLING:
        return _BY_SPELLING[key], None
    for ending, sigma_schedule in _ENDINGS.items():
        sampler = _BY_SPELLING.get(key.removesuffix(ending))
        if sampler is not None and sampler.has_sigma_schedules:
            return sampler, sigma_schedule
    others = [other for sampler in SAMPLERS.values() for other in _other_names(sampler)]
    raise UnknownNameError("sampler", name, [*SAMPLERS, *others])


def _other_names(sampler: Sampler) -> tuple[str, ...]:
    karras = (f"{sampler.name}_karras", f"{sampler.title} Karras") if sampler.has_sigma_schedules else ()
    return sampler.title, *sampler.aliases, *karras


def _spelling(name: str) -> str:
    """Letters and digits of a name, without what one tool adds to them and another leaves out."""
    key = re.sub(r"[^a-z0-9]", "", name.lower().replace("++", "pp"))
    key = re.sub(r"^(sample(?=[a-z])|k(?=euler|heun|lms|dpm))", "", key)
    return key.removesuffix("gpu").replace("ancestral", "a")


_BY_SPELLING = {
    _spelling(name): sampler
    for sampler in SAMPLERS.values()
    for name in (sampler.name, sampler.title, *sampler.aliases)
}
