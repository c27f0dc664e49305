"""Samplers and schedules of other programs in sdrt's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdrt.errors import UnknownNameError
from sdrt.metadata.checked import shown
from sdrt.samplers import COMFYUI, SAMPLERS, Sampler, find_sampler, schedule_name

# what AUTOMATIC1111's schedule `Automatic` is, in modules/sd_samplers_kdiffusion.py since 1.9
_AUTOMATIC: Mapping[str, str] = {
    "dpmpp_2m": "karras",
    "dpmpp_sde": "karras",
    "dpmpp_2s_a": "karras",
    "dpm_2": "karras",
    "dpm_2_a": "karras",
    "dpmpp_2m_sde": "exponential",
    "dpmpp_2m_sde_heun": "exponential",
    "dpmpp_3m_sde": "exponential",
}
# in modules/sd_samplers_timesteps.py: UniPC of its authors with B(h) = h and order 3
_AUTOMATIC1111_SAMPLERS: Mapping[str, tuple[str, str]] = {"unipc": ("unipc_bh1_3", "time_uniform")}
# in comfy/samplers.py: its ddim is Euler over the chosen levels, its ddpm Euler with all noise fresh
_COMFYUI_SAMPLERS: Mapping[str, str] = {
    "ddim": "euler",
    "ddpm": "euler_a",
    "uni_pc": "unipc_bh1_3",
    "uni_pc_bh2": "unipc_3",
    "deis": "deis_3",
}


@dataclass
class Sampling:
    """Keywords of a request, with notes and what is wanted as in `RecordedSettings`."""

    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    wanted: dict[str, str] = field(default_factory=dict)


def of_automatic1111(name: str, schedule: str | None) -> Sampling:
    """A sampler of AUTOMATIC1111 and its schedule; None is the one that the name says.

    Its DDIM and PLMS take timesteps of training at an even stride from the first on, whatever the schedule;
    they run from the last of range(0, 1000, 1000 // steps) down to the first, which sdrt does not.
    """
    found = Sampling()
    known = _sampler(name, found)
    if known is None:
        return found
    sampler, named = known
    own, levels = _AUTOMATIC1111_SAMPLERS.get(sampler.name, (sampler.name, None))
    found.settings["sampler"] = own
    if sampler.space is None:
        found.settings |= {"sigma_schedule": "plain"}
        if len(sampler.spacings) > 1:
            found.settings["spacing"] = "leading"
            found.notes.append(
                f"its {sampler.title} ends one timestep early, and may begin at another than sdrt's"
            )
        return found
    if schedule is not None and schedule.strip().lower() == "automatic":
        schedule = _AUTOMATIC.get(sampler.name, "normal")
    _take_schedule(levels or schedule or named or "normal", "", found)
    return found


def of_comfyui(name: str, scheduler: str) -> Sampling:
    """A sampler of ComfyUI over the levels of a scheduler."""
    found = Sampling()
    known = _sampler(_COMFYUI_SAMPLERS.get(name, name), found)
    if known is None:
        return found
    sampler, _ = known
    found.settings["sampler"] = sampler.name
    if sampler.space is None:
        found.settings["sigma_schedule"] = "plain"
        found.notes.append(f"{shown(name)} runs over its own noise levels, not those of {shown(scheduler)}")
        return found
    if name == "deis":
        found.notes.append("its DEIS extrapolates over another variable than sdrt's")
    _take_schedule(scheduler, COMFYUI, found)
    return found


def of_sdrt(name: str, schedule: str | None) -> Sampling:
    """What sdrt's own text says in AUTOMATIC1111's words; its plain levels are called Uniform there."""
    found = Sampling()
    known = _sampler(name, found)
    if known is None:
        return found
    sampler, named = known
    key = (schedule or named or "uniform").lower()
    found.settings |= {"sampler": sampler.name, "sigma_schedule": "plain"}
    if key in ("karras", "exponential", "beta"):
        found.settings["sigma_schedule"] = key if sampler.has_sigma_schedules else "plain"
    elif key != "uniform":
        _take_schedule(key, "", found)
    return found


def _sampler(name: str, found: Sampling) -> tuple[Sampler, str | None] | None:
    try:
        return find_sampler(name)
    except UnknownNameError as error:
        found.wanted["sampler"] = str(error)
        return None


def _take_schedule(name: str, program: str, found: Sampling) -> None:
    try:
        found.settings["schedule"] = schedule_name(program + name)
    except UnknownNameError:
        found.wanted["schedule"] = f"its noise levels are those of {shown(name)}, which sdrt does not know"


def draws_noise(settings: dict[str, Any]) -> bool:
    """Whether the sampler of a request draws fresh noise on the way."""
    sampler = SAMPLERS.get(settings.get("sampler", ""))
    return sampler is not None and sampler.stochastic and settings.get("eta") != 0
