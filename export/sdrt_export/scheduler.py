"""A diffusers scheduler config as a noise schedule and a sampler.

A config means what its class makes of it: what it is silent about is the default of the class, what the class
does not read is left aside. What sdrt cannot do as the class would is refused.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import diffusers
import msgspec

from sdrt.errors import ExportError
from sdrt.samplers import SAMPLERS, NoiseSchedule, find_sampler
from sdrt.samplers.schedule import PredictionType, SigmaSchedule
from sdrt.schedule_ranges import check_schedule

Config = Mapping[str, Any]

FILE = "scheduler_config.json"
MULTISTEP, SINGLESTEP = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
UNIPC, DEIS = "UniPCMultistepScheduler", "DEISMultistepScheduler"
FLOW_EULER = "FlowMatchEulerDiscreteScheduler"

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
_PREDICTIONS: dict[str, PredictionType] = {
    "epsilon": "epsilon",
    "v_prediction": "v_prediction",
    "sample": "sample",
    "original_sample": "sample",
    "flow_prediction": "flow",
}
# What the class replaces, saying nothing: names of other solvers' types.
_READ_AS = {
    MULTISTEP: {"deis": "dpmsolver++", "logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"},
    SINGLESTEP: {"deis": "dpmsolver++", "logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"},
    UNIPC: {"midpoint": "bh2", "heun": "bh2", "logrho": "bh2"},
    DEIS: {
        **dict.fromkeys(("dpmsolver", "dpmsolver++"), "deis"),
        **dict.fromkeys(("midpoint", "heun", "bh1", "bh2"), "logrho"),
    },
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
            raise _refused(option, read[option], values[:1])
    return Scheduler(schedule=_schedule(name, read), sampler=_sampler(name, read))


def reads_option(name: str, option: str) -> bool:
    """Whether a scheduler class reads an option. Raises ExportError if sdrt has no sampler for the class."""
    return option in _class_defaults(name)


def _class_defaults(name: str) -> dict[str, Any]:
    """The options of a scheduler class and their defaults, from its signature."""
    known = [alias for s in SAMPLERS.values() for alias in s.aliases if alias.endswith("Scheduler")]
    if name not in known:
        raise ExportError(
            f"sdrt has no sampler for {name!r}; name another scheduler in model_index.json and {FILE}: "
            f"{', '.join(known)}"
        )
    scheduler = getattr(diffusers, _DEFAULTS_OF.get(name, name))
    parameters = inspect.signature(scheduler.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _schedule(name: str, read: Config) -> NoiseSchedule:
    fields = {field: read[field] for field in NoiseSchedule.__struct_fields__ if field in read}
    if "timestep_spacing" not in read:  # single-step has no choice
        fields |= {"timestep_spacing": "linspace", "steps_offset": 0}
    fields |= {"sigma_schedule": _sigma_schedule(read)}
    fields |= {"prediction_type": "flow"} if name == FLOW_EULER else _prediction(read)
    for field, kind in get_type_hints(NoiseSchedule).items():
        if field in fields and get_args(kind):
            _among(field, fields[field], get_args(kind))
    try:
        schedule = msgspec.convert(fields, NoiseSchedule)
        check_schedule(schedule)
    except ValueError as error:  # msgspec's errors are ValueErrors
        raise ExportError(f"{FILE} is damaged: {error}; download it again") from None
    return schedule


def _sigma_schedule(read: Config) -> SigmaSchedule:
    rules: list[SigmaSchedule] = [rule for rule in get_args(SigmaSchedule) if read.get(f"use_{rule}_sigmas")]
    if len(rules) > 1:
        raise _refused(f"use_{rules[1]}_sigmas", True, (False,))
    return rules[0] if rules else "plain"


def _prediction(read: Config) -> dict[str, Any]:
    """What the network predicts, and the shift of its noise levels if that is a flow."""
    known = [key for key, kind in _PREDICTIONS.items() if kind != "flow" or "use_flow_sigmas" in read]
    _among("prediction_type", read["prediction_type"], tuple(known))
    prediction = _PREDICTIONS[read["prediction_type"]]
    if "use_flow_sigmas" in read:
        _among("use_flow_sigmas", bool(read["use_flow_sigmas"]), (prediction == "flow",))
    if prediction != "flow":
        return {"prediction_type": prediction}
    # with flows the classes make of these levels of the betas, or a last step that stands still
    if (rule := _sigma_schedule(read)) != "plain":
        raise _refused(f"use_{rule}_sigmas", True, (False,))
    _among("final_sigmas_type", read.get("final_sigmas_type", "zero"), ("zero",))
    return {"prediction_type": prediction, "shift": read["flow_shift"]}


def _sampler(name: str, read: Config) -> str:
    """The sampler that the options of a class choose."""
    order, least = read.get("solver_order"), read.get("final_sigmas_type") == "sigma_min"
    read_as = _READ_AS.get(name, {})
    kind = {
        option: read_as.get(str(value), value) for option, value in read.items() if option.endswith("_type")
    }
    if name == MULTISTEP:
        # the table of samplers has SDEs for diffusion only
        algorithms = ("dpmsolver++",) if read["use_flow_sigmas"] else ("dpmsolver++", "sde-dpmsolver++")
        _among("algorithm_type", kind["algorithm_type"], algorithms)
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
        _among("algorithm_type", kind.get("algorithm_type", "deis"), ("deis",))
        _among("solver_order", order, (2, 3))
        _among("solver_type", kind["solver_type"], ("bh2", "bh1") if name == UNIPC else ("logrho",))
        _among("lower_order_final", read["lower_order_final"], (True,))
        bh1 = "_bh1" if kind["solver_type"] == "bh1" else ""
        base = "unipc" if name == UNIPC else "deis"
        return f"{base}{bh1}" if order == 2 else f"{base}{bh1}_{order}"
    return find_sampler(name)[0].name


def _among(option: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        raise _refused(option, value, known)


def _refused(option: str, value: Any, known: tuple[Any, ...]) -> ExportError:
    """As the file would have it; the value may be its own or the default of the class."""
    instead = " or ".join(map(json.dumps, known))
    return ExportError(f"{option} {json.dumps(value)} is not supported; set it to {instead} in {FILE}")
