"""Samplers and schedules of other programs in sdrt's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sdrt.errors import UnknownNameError
from sdrt.metadata.checked import shown
from sdrt.samplers import SAMPLERS, SigmaSchedule, Spacing, find_sampler

# timesteps from the last to the first of training, both included, is what k-diffusion's get_sigmas does
_SCHEDULES: dict[str, tuple[Spacing, SigmaSchedule]] = {
    "uniform": ("linspace", "plain"),
    "normal": ("linspace", "plain"),
    "karras": ("linspace", "karras"),
    "exponential": ("linspace", "exponential"),
    "beta": ("linspace", "beta"),
    "simple": ("trailing", "plain"),
    "sgmuniform": ("trailing", "plain"),
    "ddim": ("leading", "plain"),
    "ddimuniform": ("leading", "plain"),
}
# what AUTOMATIC1111's schedule `Automatic` is, in modules/sd_samplers_kdiffusion.py since 1.9
_AUTOMATIC: dict[str, SigmaSchedule] = {
    "dpmpp_2m": "karras",
    "dpmpp_sde": "karras",
    "dpmpp_2s_a": "karras",
    "dpm_2": "karras",
    "dpm_2_a": "karras",
    "dpmpp_2m_sde": "exponential",
    "dpmpp_2m_sde_heun": "exponential",
    "dpmpp_3m_sde": "exponential",
}
# these take every so manieth timestep of training from the first on, whatever the schedule is called
_LEADING = ("ddim", "pndm", "unipc")


@dataclass
class Sampling:
    """Keywords of a request, with notes and what is wanted as in `RecordedSettings`."""

    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    wanted: dict[str, str] = field(default_factory=dict)


def in_our_words(name: str, schedule: str | None) -> Sampling:
    """A sampler of AUTOMATIC1111 or ComfyUI and its schedule; None is the one that the name says."""
    found = Sampling()
    try:
        sampler, named = find_sampler(name)
    except UnknownNameError as error:
        found.wanted["sampler"] = str(error)
        return found
    found.settings["sampler"] = sampler.name
    key = "".join(c for c in (schedule or "uniform").lower() if c.isalnum())
    if key == "automatic":
        key = _AUTOMATIC.get(sampler.name, "uniform")
    if named is not None and schedule is None:
        key = named
    if key not in _SCHEDULES:
        found.notes.append(f"the schedule {shown(schedule)} is none of sdrt's: noise levels are plain")
    spacing, levels = _SCHEDULES.get(key, ("linspace", "plain"))
    if sampler.name in _LEADING:
        spacing, levels = "leading", "plain"
    if spacing in sampler.spacings and len(sampler.spacings) > 1:
        found.settings["spacing"] = spacing
    found.settings["sigma_schedule"] = levels if sampler.has_sigma_schedules else "plain"
    return found


def draws_noise(settings: dict[str, Any]) -> bool:
    """Whether the sampler of a request draws fresh noise on the way."""
    sampler = SAMPLERS.get(settings.get("sampler", ""))
    return sampler is not None and sampler.stochastic and settings.get("eta") != 0
