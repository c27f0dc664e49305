"""The table of samplers: what each is called, how it steps, where it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from sdrt.errors import InputError
from sdrt.samplers import paths
from sdrt.samplers.consistency import lcm, tcd
from sdrt.samplers.ddim import ddim, ddpm
from sdrt.samplers.deis import deis
from sdrt.samplers.dpmpp import dpmpp_2m, dpmpp_3m, dpmpp_singlestep
from sdrt.samplers.euler import euler, euler_ancestral, flow_euler, lms
from sdrt.samplers.heun import dpm_2, dpm_2_ancestral, dpmpp_2s_ancestral, dpmpp_sde, heun
from sdrt.samplers.plms import plms
from sdrt.samplers.schedule import NoiseSchedule, PredictionType, Spacing
from sdrt.samplers.table import Path, StepFunction
from sdrt.samplers.unipc import unipc

_DIFFUSION: tuple[PredictionType, ...] = ("epsilon", "v_prediction", "sample")
_ALL_SPACINGS: tuple[Spacing, ...] = ("leading", "trailing", "linspace")


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """One entry of the table of samplers.

    title: as AUTOMATIC1111 writes it, or would; aliases: other tools' names and diffusers' class.
    order: the power of the step size that the error falls with (of stochastic ones without their noise).
    step: the step function; path: where it goes, from a schedule and the number of steps.
    spacings: of the timesteps, as far as there is a choice.
    has_sigma_schedules: whether its noise levels may be laid by a rule.
    space: where it runs along levels that are named or listed; None if it has timesteps of its own.
    skips_penultimate: whether k-diffusion's programs leave out the last level before the end for it: all of
    them, ComfyUI alone, or none.
    eta: share of fresh noise unless asked otherwise; None if the sampler has no such choice.
    noisy: whether it draws noise without any eta; predictions: of the models it is for.
    takes: fields of the schedule that the step function takes.
    """

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    order: int
    evaluations_per_step: int = 1
    step: Callable[..., Any]
    path: Callable[[NoiseSchedule, int], Path]
    spacings: tuple[Spacing, ...] = _ALL_SPACINGS
    has_sigma_schedules: bool = False
    space: paths.Space | None = None
    skips_penultimate: Literal["all", "comfyui"] | None = None
    eta: float | None = None
    noisy: bool = False
    predictions: tuple[PredictionType, ...] = _DIFFUSION
    takes: tuple[str, ...] = ()

    @property
    def stochastic(self) -> bool:
        """Whether it draws noise on the way, unless asked not to."""
        return self.noisy or bool(self.eta)

    def step_function(self, schedule: NoiseSchedule, eta: float | None) -> StepFunction:
        """The step function with its options. Raises InputError for an eta it does not have."""
        options: dict[str, Any] = {name: getattr(schedule, name) for name in self.takes}
        if eta is not None and self.eta is None:
            raise InputError(f"{self.title} has no eta; leave --eta out")
        if eta is not None and not 0.0 <= eta <= 1.0:
            raise InputError(f"eta is {eta}; expected 0 (no fresh noise) to 1")
        if self.eta is not None:
            options["eta"] = self.eta if eta is None else eta
        return partial(self.step, **options)


_in_sigma_space = partial(Sampler, path=paths.sigma_path, has_sigma_schedules=True, space="sigma")
_in_log_snr_space = partial(Sampler, path=paths.solver_path, has_sigma_schedules=True, space="log_snr")
_multistep_path = partial(paths.solver_path, truncated_cosine_timesteps=True)
_dpm_2_path = partial(paths.sigma_path, whole_karras_timesteps=True)

SAMPLERS = {
    sampler.name: sampler
    for sampler in (
        Sampler(
            name="ddim",
            title="DDIM",
            aliases=("DDIMScheduler",),
            order=1,
            step=ddim,
            path=paths.training_path,
            eta=0.0,
        ),
        Sampler(
            name="ddpm",
            title="DDPM",
            aliases=("DDPMScheduler",),
            order=1,
            step=ddpm,
            path=paths.markov_path,
            noisy=True,
        ),
        Sampler(
            name="pndm",
            title="PLMS",
            aliases=("PNDMScheduler",),
            order=2,
            step=plms,
            path=paths.training_path,
        ),
        _in_sigma_space(
            name="euler",
            title="Euler",
            aliases=("EulerDiscreteScheduler",),
            order=1,
            step=euler,
        ),
        _in_sigma_space(
            name="euler_a",
            title="Euler a",
            aliases=("EulerAncestralDiscreteScheduler",),
            order=1,
            step=euler_ancestral,
            eta=1.0,
        ),
        _in_sigma_space(
            name="heun",
            title="Heun",
            aliases=("HeunDiscreteScheduler",),
            order=2,
            evaluations_per_step=2,
            step=heun,
        ),
        _in_sigma_space(
            name="dpm_2",
            title="DPM2",
            aliases=("kdpm_2", "KDPM2DiscreteScheduler"),
            order=2,
            evaluations_per_step=2,
            step=dpm_2,
            path=_dpm_2_path,
            skips_penultimate="all",
        ),
        _in_sigma_space(
            name="dpm_2_a",
            title="DPM2 a",
            aliases=("kdpm_2_a", "KDPM2AncestralDiscreteScheduler"),
            order=2,
            evaluations_per_step=2,
            step=dpm_2_ancestral,
            path=_dpm_2_path,
            skips_penultimate="all",
            eta=1.0,
        ),
        _in_sigma_space(
            name="lms",
            title="LMS",
            aliases=("LMSDiscreteScheduler",),
            order=4,
            step=partial(lms, order=4),
        ),
        *(
            _in_sigma_space(
                name=f"lms_{order}", title=f"LMS {order}", order=order, step=partial(lms, order=order)
            )
            for order in (1, 2, 3)
        ),
        _in_sigma_space(
            name="dpmpp_2s_a",
            title="DPM++ 2S a",
            order=2,
            evaluations_per_step=2,
            step=dpmpp_2s_ancestral,
            eta=1.0,
        ),
        _in_sigma_space(
            name="dpmpp_sde",
            title="DPM++ SDE",
            aliases=("DPMSolverSDEScheduler",),
            order=2,
            evaluations_per_step=2,
            step=dpmpp_sde,
            eta=1.0,
        ),
        _in_log_snr_space(
            name="dpmpp_2m",
            title="DPM++ 2M",
            aliases=("DPMSolverMultistepScheduler",),
            order=2,
            step=dpmpp_2m,
            path=_multistep_path,
            predictions=(*_DIFFUSION, "flow"),
        ),
        _in_log_snr_space(
            name="dpmpp_2m_heun",
            title="DPM++ 2M Heun",
            order=2,
            step=partial(dpmpp_2m, heun=True),
            path=_multistep_path,
            predictions=(*_DIFFUSION, "flow"),
        ),
        _in_log_snr_space(
            name="dpmpp_2m_sde",
            title="DPM++ 2M SDE",
            order=2,
            step=dpmpp_2m,
            path=_multistep_path,
            eta=1.0,
        ),
        _in_log_snr_space(
            name="dpmpp_2m_sde_heun",
            title="DPM++ 2M SDE Heun",
            order=2,
            step=partial(dpmpp_2m, heun=True),
            path=_multistep_path,
            eta=1.0,
        ),
        _in_log_snr_space(
            name="dpmpp_3m",
            title="DPM++ 3M",
            order=2,
            step=dpmpp_3m,
            path=_multistep_path,
            predictions=(*_DIFFUSION, "flow"),
        ),
        _in_log_snr_space(
            name="dpmpp_3m_sde",
            title="DPM++ 3M SDE",
            order=2,
            step=partial(dpmpp_3m, heun=True),
            path=_multistep_path,
            eta=1.0,
        ),
        *(
            _in_log_snr_space(
                name=f"dpmpp_single_{order}",
                title=f"DPM++ single-step {order}",
                aliases=aliases,
                order=order,
                step=partial(dpmpp_singlestep, order=order),
                path=paths.singlestep_path,
                spacings=("linspace",),
                predictions=(*_DIFFUSION, "flow"),
            )
            for order, aliases in (
                (2, ("dpmpp_2s", "dpmpp_single", "DPMSolverSinglestepScheduler")),
                (3, ("dpmpp_3s",)),
            )
        ),
        *(
            _in_log_snr_space(
                name=name,
                title=title,
                aliases=aliases,
                order=order,
                step=partial(unipc, order=order, bh1=bh1),
                path=paths.unipc_path,
                skips_penultimate="comfyui",
                predictions=(*_DIFFUSION, "flow"),
            )
            for name, title, order, bh1, aliases in (
                ("unipc", "UniPC", 2, False, ("unipc_bh2", "UniPCMultistepScheduler")),
                ("unipc_3", "UniPC 3", 3, False, ("unipc_bh2_3",)),
                ("unipc_bh1", "UniPC bh1", 2, True, ()),
                ("unipc_bh1_3", "UniPC bh1 3", 3, True, ()),
            )
        ),
        *(
            _in_log_snr_space(
                name=name,
                title=title,
                aliases=aliases,
                order=order,
                step=partial(deis, order=order),
                path=paths.deis_path,
                predictions=(*_DIFFUSION, "flow"),
            )
            for name, title, order, aliases in (
                ("deis", "DEIS", 2, ("DEISMultistepScheduler",)),
                ("deis_3", "DEIS 3", 3, ()),
            )
        ),
        Sampler(
            name="lcm",
            title="LCM",
            aliases=("LCMScheduler",),
            order=1,
            step=lcm,
            path=paths.consistency_path,
            spacings=(),
            noisy=True,
            takes=("timestep_scaling",),
        ),
        Sampler(
            name="tcd",
            title="TCD",
            aliases=("TCDScheduler",),
            order=1,
            step=tcd,
            path=paths.trajectory_path,
            spacings=(),
            eta=0.3,
        ),
        Sampler(
            name="flow_euler",
            title="Flow Euler",
            aliases=("flow_match_euler", "FlowMatchEulerDiscreteScheduler"),
            order=1,
            step=flow_euler,
            path=paths.flow_path,
            spacings=(),
            has_sigma_schedules=True,
            predictions=("flow",),
        ),
    )
}
