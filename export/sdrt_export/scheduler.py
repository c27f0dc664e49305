"""A diffusers scheduler config as a noise schedule and a sampler.

A config means what its class makes of it: what it is silent about is the default of the class, what the class
does not read is left aside. What sdrt cannot do as the class would is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import diffusers

from sdrt.errors import ExportError
from sdrt.samplers import SAMPLERS, NoiseSchedule, find_sampler
from sdrt.samplers.schedule import BetaSchedule, PredictionType, SigmaSchedule

Config = Mapping[str, Any]

FILE = "scheduler_config.json"
MULTISTEP, SINGLESTEP = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
UNIPC, DEIS = "UniPCMultistepScheduler", "DEISMultistepScheduler"

# Options with one value that sdrt can do, where the class reads them at all. Clipping and thresholding are
# not linear; the others belong to rare models or schedules.
_ONLY: dict[str, tuple[Any, ...]] = {
    "clip_sample": (False,),
    "disable_corrector": ([],),
    "interpolation_type": ("linear",),
    "invert_sigmas": (False,),
    "lambda_min_clipped": (-float("inf"),),
    "predict_x0": (True,),
    "shift_terminal": (None,),
    "sigma_max": (None,),
    "sigma_min": (None,),
    "skip_prk_steps": (True,),
    "solver_p": (None,),
    "stochastic_sampling": (False,),
    "thresholding": (False,),
    "timestep_type": ("discrete",),
    "trained_betas": (None,),
    "use_dynamic_shifting": (False,),
    "use_lu_lambdas": (False,),
    "variance_type": (None, "fixed_small"),
}
_EITHER = (True, False)
_PREDICTIONS = {"flow_prediction": "flow", "original_sample": "sample"}
# What the class replaces, saying nothing: names of other solvers' types.
_READ_AS = {
    MULTISTEP: {"deis": "dpmsolver++", "logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"},
    SINGLESTEP: {"deis": "dpmsolver++", "logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"},
    UNIPC: {"midpoint": "bh2", "heun": "bh2", "logrho": "bh2"},
}
# Without torchsde diffusers has a stand-in for this class; the defaults of the other are the same.
_DEFAULTS_OF = {"DPMSolverSDEScheduler": "KDPM2DiscreteScheduler"}


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """sampler: a name of `sdrt.samplers.SAMPLERS`."""

    schedule: NoiseSchedule
    sampler: str


def read_scheduler(config: Config) -> Scheduler:
    """Understand a scheduler config.

    Raises ExportError naming the option that sdrt cannot do, and the mend.
    """
    name = str(config.get("_class_name", ""))
    defaults = _class_defaults(name)
    read = {**defaults, **{option: value for option, value in config.items() if option in defaults}}
    for option, values in _ONLY.items():
        if option in read and read[option] not in values:
            raise _refused(option, read[option], values[0])
    return Scheduler(schedule=_schedule(name, read), sampler=_sampler(name, read))


def _class_defaults(name: str) -> dict[str, Any]:
    """The options of a scheduler class and their defaults, from its signature."""
    known = [alias for s in SAMPLERS.values() for alias in s.aliases if alias.endswith("Scheduler")]
    if name not in known:
        raise ExportError(
            f"sdrt has no sampler for {name!r}, which {FILE} names; take one of {', '.join(known)}"
        )
    scheduler = getattr(diffusers, _DEFAULTS_OF.get(name, name))
    parameters = inspect.signature(scheduler.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _schedule(name: str, read: Config) -> NoiseSchedule:
    fields = {field: read[field] for field in NoiseSchedule.__struct_fields__ if field in read}
    if "timestep_spacing" not in read:  # single-step has no choice
        fields |= {"timestep_spacing": "linspace", "steps_offset": 0}
    if name == "FlowMatchEulerDiscreteScheduler":
        fields["prediction_type"] = "flow"
    elif "prediction_type" in read:
        prediction = _PREDICTIONS.get(read["prediction_type"], read["prediction_type"])
        if prediction not in get_args(PredictionType):
            raise _refused("prediction_type", prediction, "epsilon, v_prediction, sample or flow_prediction")
        if (prediction == "flow") != bool(read.get("use_flow_sigmas")):
            raise _refused("use_flow_sigmas", read.get("use_flow_sigmas"), prediction == "flow")
        fields |= {"prediction_type": prediction, "shift": read.get("flow_shift", 1.0)}
    if "beta_schedule" in read and read["beta_schedule"] not in get_args(BetaSchedule):
        raise _refused("beta_schedule", read["beta_schedule"], " or ".join(get_args(BetaSchedule)))
    rules: list[SigmaSchedule] = [rule for rule in get_args(SigmaSchedule) if read.get(f"use_{rule}_sigmas")]
    if len(rules) > 1:
        raise _refused(f"use_{rules[1]}_sigmas", True, False)
    return NoiseSchedule(**fields, sigma_schedule=rules[0] if rules else "plain")


def _sampler(name: str, read: Config) -> str:
    """The sampler that the options of a class choose."""
    order, least = read.get("solver_order"), read.get("final_sigmas_type") == "sigma_min"
    read_as = _READ_AS.get(name, {})
    kind = {option: read_as.get(value, value) for option, value in read.items() if option.endswith("_type")}
    if name == MULTISTEP:
        _among("algorithm_type", kind["algorithm_type"], ("dpmsolver++", "sde-dpmsolver++"))
        _among("solver_order", order, (2, 3))
        _among("solver_type", kind["solver_type"], ("midpoint", "heun") if order == 2 else ("midpoint",))
        # with zero noise at the end the last step is of order 1 whatever these say
        _among("lower_order_final", read["lower_order_final"], (True,) if order == 3 or least else _EITHER)
        _among("euler_at_final", read["euler_at_final"], (False,) if least else _EITHER)
        sde = "_sde" if kind["algorithm_type"] == "sde-dpmsolver++" else ""
        heun = "_heun" if kind["solver_type"] == "heun" else ""
        return f"dpmpp_{order}m{sde}{heun}"
    if name == SINGLESTEP:
        _among("algorithm_type", kind["algorithm_type"], ("dpmsolver++",))
        _among("solver_order", order, (2, 3))
        _among("solver_type", kind["solver_type"], ("midpoint",))
        # with zero noise at the end the class sets it to true, whatever it was
        _among("lower_order_final", read["lower_order_final"], (False,) if least else _EITHER)
        return f"dpmpp_single_{order}"
    if name in (UNIPC, DEIS):
        _among("solver_order", order, (2, 3))
        _among("lower_order_final", read["lower_order_final"], (True,))
        bh1 = "_bh1" if name == UNIPC and kind["solver_type"] == "bh1" else ""
        base = "unipc" if name == UNIPC else "deis"
        return f"{base}{bh1}" if order == 2 else f"{base}{bh1}_{order}"
    return find_sampler(name)[0].name


def _among(option: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        raise _refused(option, value, " or ".join(map(str, known)))


def _refused(option: str, value: Any, instead: Any) -> ExportError:
    return ExportError(f"{option} {value!r} in {FILE} is not supported; set it to {instead}")
