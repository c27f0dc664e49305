"""Every sampler against diffusers: the whole response table, with no model in it.

Two comparisons. In float64 arithmetic, with the noise levels given, diffusers' formulas and ours are the same
to 1e-12, but for the third-order solvers (THIRD_ORDER), whose closed forms lose digits in diffusers as steps
become short. As it is, diffusers computes in float32: that is within 1e-6 for the samplers in FLOAT32, and
what the others differ by is diffusers' own rounding (test_what_diffusers_rounds).

Differences that are meant, each with its test or its place in the harness:
- DPM++ 3M SDE: diffusers 0.42 has the wrong sign in front of 1/2 in phi_3 (test_third_order_sde...).
- UniPC with bh1: diffusers ends in NaN, 0 times B(h) = -inf; we end at the prediction (test_bh1...).
- LMS from a step in the middle: diffusers uses weights of an order it has no history for, and leaves noise.
- PLMS from a step in the middle: diffusers slices a list of timesteps in which the second is there twice, and
  is one step off; we start as at the first step.
- LMS, Heun, DPM2, DPM++ SDE, single-step and DEIS know no zero terminal SNR in diffusers, PNDM no prediction
  of the sample, Euler a neither that nor Karras levels. Ours do.
- DDPM: diffusers clamps its last variance, which is zero, at 1e-20.
- DPM++ SDE: its noise is read through a Brownian motion made of one-hot vectors; torchsde's has other numbers
  for a seed than our stream, so that pictures differ as from one seed to another.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from sdrt.samplers import SAMPLERS, NoiseSchedule, compile_sampler

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers_response import Response, response_of, scheduler_class

SHORT, LONG = (1, 2, 3, 5, 10, 20), (50, 100)
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@dataclass(frozen=True)
class Case:
    """A sampler, its diffusers class, and the options that make one the other."""

    name: str
    scheduler: str
    options: dict[str, Any] = field(default_factory=dict)
    lms_order: int | None = None


MULTISTEP, SINGLESTEP = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
UNIPC, DEIS, LMS = "UniPCMultistepScheduler", "DEISMultistepScheduler", "LMSDiscreteScheduler"
SDE = {"algorithm_type": "sde-dpmsolver++"}
CASES = {
    case.name: case
    for case in (
        Case("ddim", "DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
        Case("ddpm", "DDPMScheduler", {"clip_sample": False}),
        Case("pndm", "PNDMScheduler", {"skip_prk_steps": True}),
        Case("euler", "EulerDiscreteScheduler"),
        Case("euler_a", "EulerAncestralDiscreteScheduler"),
        Case("heun", "HeunDiscreteScheduler"),
        Case("dpm_2", "KDPM2DiscreteScheduler"),
        Case("dpm_2_a", "KDPM2AncestralDiscreteScheduler"),
        Case("lms", LMS, lms_order=4),
        *(Case(f"lms_{order}", LMS, lms_order=order) for order in (1, 2, 3)),
        Case("dpmpp_sde", "DPMSolverSDEScheduler"),
        Case("dpmpp_2m", MULTISTEP),
        Case("dpmpp_2m_heun", MULTISTEP, {"solver_type": "heun"}),
        Case("dpmpp_2m_sde", MULTISTEP, SDE),
        Case("dpmpp_2m_sde_heun", MULTISTEP, {**SDE, "solver_type": "heun"}),
        Case("dpmpp_3m", MULTISTEP, {"solver_order": 3}),
        Case("dpmpp_3m_sde", MULTISTEP, {**SDE, "solver_order": 3, "solver_type": "heun"}),
        Case("dpmpp_single_2", SINGLESTEP),
        Case("dpmpp_single_3", SINGLESTEP, {"solver_order": 3}),
        Case("unipc", UNIPC),
        Case("unipc_3", UNIPC, {"solver_order": 3}),
        Case("unipc_bh1", UNIPC, {"solver_type": "bh1"}),
        Case("unipc_bh1_3", UNIPC, {"solver_type": "bh1", "solver_order": 3}),
        Case("deis", DEIS),
        Case("deis_3", DEIS, {"solver_order": 3}),
        Case("lcm", "LCMScheduler"),
        Case("tcd", "TCDScheduler"),
    )
}
# diffusers has no scheduler of this name, or one that takes part in a test of its own
ELSEWHERE = {"dpmpp_2s_a": "k-diffusion", "flow_euler": "test_flow_matching"}

# phi_3 is about h^3 and computed as the difference of terms of size 1; DEIS divides by products of distances
THIRD_ORDER = {
    "dpmpp_3m": 1e-10,
    "dpmpp_3m_sde": 1e-10,
    "unipc_3": 1e-10,
    "unipc_bh1_3": 1e-10,
    "deis_3": 2e-9,
}
# within a millionth of diffusers as it is, at every number of steps, spacing and noise level
FLOAT32 = ("ddim", "pndm", "euler", "euler_a", "lms_1", "dpmpp_single_2", "lcm", "tcd")


def schedulers(name: str) -> list[tuple[str, str, str]]:
    """Spacing, noise levels and prediction, as far as the diffusers class has them."""
    sampler = SAMPLERS[name]
    levels = ("plain", "karras", "exponential", "beta")
    levels = levels if sampler.has_sigma_schedules and name != "euler_a" else ("plain",)
    return list(itertools.product(sampler.spacings or ("leading",), levels, ("epsilon", "v_prediction")))


def build(case: Case, spacing: str, sigma_schedule: str, prediction: str) -> Any:
    options = dict(case.options)
    if len(SAMPLERS[case.name].spacings) > 1:
        options |= {"timestep_spacing": spacing, "steps_offset": 1}
    if sigma_schedule != "plain":
        options[f"use_{sigma_schedule}_sigmas"] = True
    return scheduler_class(case.scheduler)(**SD, prediction_type=prediction, **options)


def levels_of(name: str, schedule: NoiseSchedule, steps: int) -> np.ndarray:
    """Noise to signal where each step starts, and where the last ends."""
    legs = SAMPLERS[name].path(schedule, steps).legs
    points = [*(here for here, _ in legs), legs[-1][1]]
    with np.errstate(divide="ignore"):
        return np.divide([point.sigma for point in points], [point.alpha for point in points])


def relative_error(ours: np.ndarray, theirs: Response) -> float:
    assert ours.shape == theirs.table.shape
    table = theirs.table
    if np.isnan(table[-1]).any():  # bh1: see test_bh1_ends_at_the_prediction
        ours, table = ours[:-1], table[:-1]
    return float(np.abs(ours - table).max() / np.abs(table).max())


def test_every_sampler_is_compared():
    assert {*CASES, *ELSEWHERE} == set(SAMPLERS)


@pytest.mark.parametrize(
    ("name", "spacing", "sigma_schedule", "prediction"),
    [(name, *settings) for name in CASES if name != "dpmpp_3m_sde" for settings in schedulers(name)],
)
@pytest.mark.parametrize("runs", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)], ids=["short", "long"])
def test_response_equals_diffusers(name, spacing, sigma_schedule, prediction, runs):
    case = CASES[name]
    scheduler = build(case, spacing, sigma_schedule, prediction)
    schedule = NoiseSchedule(
        prediction_type=prediction, timestep_spacing=spacing, sigma_schedule=sigma_schedule
    )
    for steps in runs:
        if name in ("lcm", "tcd") and steps > schedule.original_inference_steps:
            continue
        for start in sorted({0, steps // 3, steps - 1}):
            table = compile_sampler(name, schedule, steps, start=start)
            levels = levels_of(name, schedule, steps)
            exact = response_of(scheduler, steps, start=start, levels=levels, lms_order=case.lms_order)
            assert relative_error(table.response(), exact) <= THIRD_ORDER.get(name, 1e-12), (steps, start)

        table = compile_sampler(name, schedule, steps)
        theirs = response_of(scheduler, steps, lms_order=case.lms_order)
        if name in FLOAT32:
            assert relative_error(table.response(), theirs) <= 1e-6, steps
        # DPM2 a takes the lower level from a difference of squares, in float32
        np.testing.assert_allclose(table.timesteps, theirs.timesteps, rtol=0, atol=1e-3)
        np.testing.assert_allclose(table.c_in, theirs.c_in, rtol=1e-5 if name == "dpm_2_a" else 1e-6)
        assert table.initial_scale == pytest.approx(theirs.initial_scale, rel=1e-6)


ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
COSINE_KARRAS = {"beta_schedule": "squaredcos_cap_v2", "sigma_schedule": "karras"}
LEAST = {"final_sigmas_type": "sigma_min"}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *(
            (name, {"beta_schedule": beta_schedule, "beta_start": 1e-4, "beta_end": 0.02})
            for beta_schedule in ("linear", "squaredcos_cap_v2")
            for name in CASES
            if name != "dpmpp_3m_sde"
        ),
        *((name, COSINE_KARRAS) for name in ("dpmpp_2m", "unipc")),
        *((name, ZERO_SNR) for name in ("ddim", "ddpm", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_sde")),
        *((name, ZERO_SNR) for name in ("unipc", "tcd")),
        *((name, LEAST) for name in ("euler", "dpmpp_2m", "dpmpp_3m", "dpmpp_2m_sde", "unipc_3")),
        *((name, LEAST) for name in ("dpmpp_single_2", "dpmpp_single_3")),
        *(("unipc_bh1", {**LEAST, "timestep_spacing": spacing}) for spacing in ("leading", "trailing")),
        *((name, {**LEAST, "sigma_schedule": "karras"}) for name in ("euler", "dpmpp_2m", "dpmpp_2m_sde")),
        *((name, {"set_alpha_to_one": True, "steps_offset": 0}) for name in ("ddim", "pndm", "lcm")),
        *((name, {"prediction_type": "sample"}) for name in ("ddim", "ddpm", "euler", "heun", "lms")),
        *((name, {"prediction_type": "sample"}) for name in ("dpmpp_2m", "deis")),
        ("lcm", {"original_inference_steps": 100, "timestep_scaling": 5.0}),
    ],
)
def test_other_schedules(name, settings):
    case = CASES[name]
    schedule = NoiseSchedule(**settings)
    scheduler_options = {**SD, **case.options, **settings}
    if len(SAMPLERS[name].spacings) > 1:
        scheduler_options = {"timestep_spacing": "leading", "steps_offset": 1} | scheduler_options
    if "sigma_schedule" in settings:
        scheduler_options[f"use_{scheduler_options.pop('sigma_schedule')}_sigmas"] = True
    for steps in (2, 5, 20):
        # a new one each time: single-step remembers that a number of steps was uneven
        scheduler = scheduler_class(case.scheduler)(**scheduler_options)
        table = compile_sampler(name, schedule, steps)
        theirs = response_of(
            scheduler,
            steps,
            levels=levels_of(name, schedule, steps),
            alphas_cumprod=None if SAMPLERS[name].has_sigma_schedules else schedule.alphas_cumprod(),
            lms_order=case.lms_order,
        )
        # DDPM's 1 - alpha^2 is 1e-4 at the start of a linear schedule, and has that many digits less
        assert relative_error(table.response(), theirs) <= max(THIRD_ORDER.get(name, 0.0), 1e-11), steps
        atol = 1e-2 if name == "dpm_2_a" else 1e-3  # whose lower level is a float32 difference of squares
        np.testing.assert_allclose(table.timesteps, theirs.timesteps, rtol=0, atol=atol)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["ddim", "tcd"])
def test_eta(name, eta):
    scheduler = build(CASES[name], "leading", "plain", "epsilon")
    for steps in (1, 2, 10, 50):
        table = compile_sampler(name, NoiseSchedule(), steps, eta=eta)
        theirs = response_of(scheduler, steps, eta=eta)
        assert relative_error(table.response(), theirs) <= 1e-6


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(
    ("name", "sigma_schedule"),
    [
        *(("flow_euler", levels) for levels in ("plain", "karras", "exponential", "beta")),
        *(
            (name, "plain")
            for name, s in SAMPLERS.items()
            if "flow" in s.predictions and name != "flow_euler"
        ),
    ],
)
def test_flow_matching(name, sigma_schedule, shift):
    schedule = NoiseSchedule(prediction_type="flow", shift=shift, sigma_schedule=sigma_schedule)
    if name == "flow_euler":
        options = {"shift": shift}
        if sigma_schedule != "plain":
            options[f"use_{sigma_schedule}_sigmas"] = True
        scheduler = scheduler_class("FlowMatchEulerDiscreteScheduler")(**options)
    else:
        case = CASES[name]
        options = {"use_flow_sigmas": True, "flow_shift": shift, "prediction_type": "flow_prediction"}
        scheduler = scheduler_class(case.scheduler)(**SD, **case.options, **options)
    for steps, start in itertools.product((1, 2, 5, 20), (0, 1)):
        if start >= steps:
            continue
        table = compile_sampler(name, schedule, steps, start=start)
        legs = SAMPLERS[name].path(schedule, steps).legs
        levels = np.array([point.sigma for point in (*(here for here, _ in legs), legs[-1][1])])
        scheduler.set_timesteps(steps)
        # the levels below are ours, and the first alpha is what is left of them to 1
        np.testing.assert_allclose(1.0 - levels, 1.0 - scheduler.sigmas.double().numpy(), rtol=1e-4)
        theirs = response_of(scheduler, steps, start=start, levels=levels)
        # the first alpha is 1e-3 or 1e-6, the difference of s from 1
        assert relative_error(table.response(), theirs) <= max(THIRD_ORDER.get(name, 0.0), 1e-11), steps
        np.testing.assert_allclose(table.timesteps, theirs.timesteps, rtol=0, atol=1e-3)
        np.testing.assert_allclose(table.c_in, theirs.c_in, rtol=1e-12)


def test_third_order_sde_differs_from_diffusers_by_the_sign_it_has_wrong():
    """Its weight of D_2 is (1 - e^-2h - 2h) / (2h)^2 - 1/2, which tends to -1, and with + 1/2 to 0."""
    scheduler = build(CASES["dpmpp_3m_sde"], "leading", "plain", "epsilon")
    wrong = scheduler.multistep_dpm_solver_third_order_update

    def mended(model_outputs, *, sample, noise):
        k = scheduler.step_index
        ratios = scheduler.sigmas[[k + 1, k, k - 1, k - 2]]
        h, h_1, h_2 = (-ratios.log()).diff().neg()
        newest, middle, oldest = model_outputs[-1], model_outputs[-2], model_outputs[-3]
        second_difference = h / (h_1 + h_2) * (h / h_1 * (newest - middle) - h / h_2 * (middle - oldest))
        alpha = 1.0 / (ratios[0] ** 2 + 1.0) ** 0.5
        return wrong(model_outputs, sample=sample, noise=noise) + alpha * second_difference

    for steps, start in ((10, 0), (20, 5), (50, 0)):
        table = compile_sampler("dpmpp_3m_sde", NoiseSchedule(), steps, start=start).response()
        levels = levels_of("dpmpp_3m_sde", NoiseSchedule(), steps)
        scheduler.multistep_dpm_solver_third_order_update = wrong
        assert relative_error(table, response_of(scheduler, steps, start=start, levels=levels)) > 0.01
        scheduler.multistep_dpm_solver_third_order_update = mended
        theirs = response_of(scheduler, steps, start=start, levels=levels)
        assert relative_error(table, theirs) <= THIRD_ORDER["dpmpp_3m_sde"]


@pytest.mark.parametrize("name", ["unipc_bh1", "unipc_bh1_3"])
def test_bh1_ends_at_the_prediction_and_not_in_nan(name):
    theirs = response_of(build(CASES[name], "leading", "plain", "epsilon"), 10)
    assert np.isnan(theirs.table[-1]).any()
    last = compile_sampler(name, NoiseSchedule(prediction_type="sample"), 10).response()[-1]
    np.testing.assert_array_equal(last, np.eye(11)[-1])


WORST = {
    "ddpm": ("linspace", "plain", "epsilon", 100),
    "heun": ("linspace", "plain", "v_prediction", 2),
    "lms_2": ("trailing", "plain", "epsilon", 100),
    "lms_3": ("trailing", "plain", "epsilon", 100),
    "dpmpp_single_3": ("linspace", "beta", "epsilon", 100),
}


@pytest.mark.parametrize("name", [name for name in CASES if name not in (*FLOAT32, "dpmpp_3m_sde")])
def test_what_diffusers_rounds(name):
    """Where we are more than a millionth from diffusers, it is as far from itself in float64."""
    case = CASES[name]
    spacing, sigma_schedule, prediction, steps = WORST.get(name, ("leading", "beta", "epsilon", 100))
    schedule = NoiseSchedule(
        prediction_type=prediction, timestep_spacing=spacing, sigma_schedule=sigma_schedule
    )
    scheduler = build(case, spacing, sigma_schedule, prediction)
    levels = levels_of(name, schedule, steps)
    exact = response_of(scheduler, steps, levels=levels, lms_order=case.lms_order)
    rounded = response_of(scheduler, steps, lms_order=case.lms_order)
    ours = compile_sampler(name, schedule, steps).response()
    assert relative_error(ours, exact) <= THIRD_ORDER.get(name, 1e-12)
    assert relative_error(exact.table, rounded) > 1e-6
