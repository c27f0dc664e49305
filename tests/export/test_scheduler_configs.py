"""A scheduler config gives what diffusers would run: the same response table at the same timesteps."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from diffusers_response import response_of, scheduler_class

from sdrt.errors import ExportError
from sdrt.samplers import SAMPLERS, compile_sampler
from sdrt_export.scheduler import read_scheduler

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
# as the repositories of these models have them, in what matters
SD15 = {**SD, "clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1}
SDXL = {**SD15, "timestep_spacing": "leading", "interpolation_type": "linear", "use_karras_sigmas": False}
KARRAS = {"use_karras_sigmas": True}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
LEAST = {"final_sigmas_type": "sigma_min"}
MULTISTEP = "DPMSolverMultistepScheduler"
FLOW = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}
CONFIGS: list[tuple[str, dict[str, Any], str]] = [
    ("PNDMScheduler", SD15, "pndm"),
    ("DDIMScheduler", {**SD15, "prediction_type": "v_prediction"}, "ddim"),
    ("DDIMScheduler", {**SD15, **ZERO_SNR}, "ddim"),
    ("DDPMScheduler", SD15, "ddpm"),
    ("EulerDiscreteScheduler", SDXL, "euler"),
    (
        "EulerDiscreteScheduler",
        {**SDXL, **KARRAS, **LEAST},
        "euler",
    ),
    ("EulerDiscreteScheduler", {}, "euler"),
    ("EulerAncestralDiscreteScheduler", {**SDXL, "timestep_spacing": "trailing"}, "euler_a"),
    # from_config of another class keeps what that class reads, and the rest is left aside
    ("EulerAncestralDiscreteScheduler", {**SDXL, **KARRAS}, "euler_a"),
    ("HeunDiscreteScheduler", {**SDXL, **KARRAS}, "heun"),
    ("LMSDiscreteScheduler", SDXL, "lms"),
    ("KDPM2DiscreteScheduler", SDXL, "dpm_2"),
    ("KDPM2AncestralDiscreteScheduler", {**SDXL, "use_exponential_sigmas": True}, "dpm_2_a"),
    ("DPMSolverSDEScheduler", {**SDXL, **KARRAS}, "dpmpp_sde"),
    (MULTISTEP, SD15, "dpmpp_2m"),
    (MULTISTEP, {**SDXL, **KARRAS}, "dpmpp_2m"),
    (MULTISTEP, {**SDXL, "use_beta_sigmas": True, "solver_type": "heun"}, "dpmpp_2m_heun"),
    (MULTISTEP, {**SDXL, "algorithm_type": "sde-dpmsolver++", **KARRAS}, "dpmpp_2m_sde"),
    (MULTISTEP, {**SD15, "solver_order": 3}, "dpmpp_3m"),
    (MULTISTEP, {**SDXL, "euler_at_final": True, "lower_order_final": False}, "dpmpp_2m"),
    (MULTISTEP, {**SD15, "algorithm_type": "deis", "solver_type": "logrho", **LEAST}, "dpmpp_2m"),
    (MULTISTEP, {**SD15, "beta_schedule": "squaredcos_cap_v2"}, "dpmpp_2m"),
    (MULTISTEP, {**SD15, **ZERO_SNR}, "dpmpp_2m"),
    (MULTISTEP, FLOW, "dpmpp_2m"),
    ("DPMSolverSinglestepScheduler", {**SDXL, "timestep_spacing": "trailing"}, "dpmpp_single_2"),
    ("DPMSolverSinglestepScheduler", {**SD15, "solver_order": 3}, "dpmpp_single_3"),
    ("UniPCMultistepScheduler", SD15, "unipc"),
    ("UniPCMultistepScheduler", {**SD15, "solver_order": 3, "solver_type": "midpoint"}, "unipc_3"),
    ("UniPCMultistepScheduler", {**SD15, "timestep_spacing": "trailing", **KARRAS}, "unipc"),
    ("UniPCMultistepScheduler", FLOW, "unipc"),
    ("DEISMultistepScheduler", SD15, "deis"),
    ("DEISMultistepScheduler", {**SD15, "solver_order": 3}, "deis_3"),
    ("LCMScheduler", {**SD15, "original_inference_steps": 50, "timestep_scaling": 10.0}, "lcm"),
    ("TCDScheduler", {**SD15, "prediction_type": "epsilon"}, "tcd"),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, "flow_euler"),
]


@pytest.mark.parametrize(("name", "config", "sampler"), CONFIGS)
def test_config_gives_what_diffusers_runs(name, config, sampler):
    read = read_scheduler({"_class_name": name, "_diffusers_version": "0.42.1", **config})
    assert read.sampler == sampler
    check_against_diffusers(name, config, read)


def check_against_diffusers(name, config, read):
    scheduler = scheduler_class(name).from_config(config)
    table = compile_sampler(read.sampler, read.schedule, 8)
    # float32 arithmetic of diffusers is another matter: tests/sdrt/test_samplers_parity.py
    theirs = response_of(scheduler, 8, levels=_levels(read), alphas_cumprod=_alphas_cumprod(read))
    np.testing.assert_allclose(table.timesteps, theirs.timesteps, rtol=0, atol=1e-2)
    np.testing.assert_allclose(
        table.response(), theirs.table, rtol=0, atol=1e-10 * np.abs(theirs.table).max()
    )
    np.testing.assert_allclose(table.c_in, theirs.c_in, rtol=1e-5)
    assert table.initial_scale == pytest.approx(theirs.initial_scale, rel=1e-6)


def _levels(read) -> np.ndarray:
    legs = SAMPLERS[read.sampler].path(read.schedule, 8).legs
    points = [*(here for here, _ in legs), legs[-1][1]]
    if read.schedule.prediction_type == "flow":
        return np.array([point.sigma for point in points])
    with np.errstate(divide="ignore"):
        return np.divide([point.sigma for point in points], [point.alpha for point in points])


def _alphas_cumprod(read) -> np.ndarray | None:
    return None if SAMPLERS[read.sampler].has_sigma_schedules else read.schedule.alphas_cumprod()


CLASSES = sorted({a for s in SAMPLERS.values() for a in s.aliases if a.endswith("Scheduler")})
# without these the defaults of a class may be something that sdrt cannot do
POSSIBLE = {"clip_sample": False, "skip_prk_steps": True}


def test_every_sampler_of_diffusers_is_reached():
    assert {name for name, _, _ in CONFIGS} == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_silence_is_the_default_of_the_class(name):
    check_against_diffusers(name, POSSIBLE, read_scheduler({"_class_name": name, **POSSIBLE}))


# options that say how another option works, which is off or refused by itself
IDLE = {
    *("clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value"),
    *("base_image_seq_len", "base_shift", "max_image_seq_len", "max_shift", "time_shift_type"),
    "flow_shift",
    "noise_sampler_seed",  # a seed has its own noise here
}
# at zero noise the last step is of order 1 whatever these say
LAST_STEP = {"euler_at_final", "lower_order_final"}
OTHER = {bool: lambda value: not value, int: lambda value: value + 1, float: lambda _: 0.5}


@pytest.mark.parametrize("name", CLASSES)
def test_no_option_is_overlooked(name):
    """Another value of any option is another sampler, another schedule, or refused."""
    usual = {"_class_name": name, **POSSIBLE}
    overlooked = []
    for option, parameter in inspect.signature(scheduler_class(name).__init__).parameters.items():
        default = POSSIBLE.get(option, parameter.default)
        if option == "self" or option in IDLE | LAST_STEP:
            continue
        other = OTHER.get(type(default), lambda _: "something else")(default)
        try:
            if read_scheduler({**usual, option: other}) == read_scheduler(usual):
                overlooked.append(option)
        except ExportError:
            pass
    assert overlooked == []


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("DDIMScheduler", {}, "clip_sample true is not supported; set it to false in scheduler_config.json"),
        ("DDIMScheduler", {**SD15, "thresholding": True}, "thresholding true"),
        ("DDIMScheduler", {**SD15, "trained_betas": [0.1]}, "trained_betas [0.1]"),
        ("DDPMScheduler", {**SD15, "variance_type": "fixed_large"}, 'variance_type "fixed_large"'),
        ("DDPMScheduler", {**SD15, "beta_schedule": "sigmoid"}, 'set it to "linear" or "scaled_linear" or'),
        (
            "PNDMScheduler",
            SD,
            "skip_prk_steps false is not supported; set it to true",
        ),
        ("EulerDiscreteScheduler", {"interpolation_type": "log_linear"}, 'interpolation_type "log_linear"'),
        ("EulerDiscreteScheduler", {"timestep_type": "continuous"}, 'timestep_type "continuous"'),
        ("EulerDiscreteScheduler", {"sigma_max": 80.0}, "sigma_max 80.0"),
        ("EulerDiscreteScheduler", {"prediction_type": "score"}, 'prediction_type "score"'),
        (
            "LMSDiscreteScheduler",
            {**KARRAS, "use_beta_sigmas": True},
            "use_beta_sigmas true",
        ),
        (MULTISTEP, {"algorithm_type": "dpmsolver"}, 'set it to "dpmsolver++" or "sde-dpmsolver++"'),
        (MULTISTEP, {"solver_order": 1}, "solver_order 1"),
        (MULTISTEP, {"solver_order": 3, "lower_order_final": False}, "lower_order_final false"),
        (MULTISTEP, {"solver_order": 3, "solver_type": "heun"}, 'solver_type "heun"'),
        (MULTISTEP, {**LEAST, "euler_at_final": True}, "euler_at_final true"),
        (MULTISTEP, {"use_lu_lambdas": True}, "use_lu_lambdas true"),
        (MULTISTEP, {"lambda_min_clipped": -5.1}, "lambda_min_clipped -5.1"),
        (MULTISTEP, {"variance_type": "learned_range"}, 'variance_type "learned_range"'),
        (
            MULTISTEP,
            {"prediction_type": "flow_prediction"},
            "use_flow_sigmas false is not supported; set it to true",
        ),
        ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}, "algorithm_type"),
        ("UniPCMultistepScheduler", {"predict_x0": False}, "predict_x0 false"),
        ("UniPCMultistepScheduler", {"disable_corrector": [0]}, "disable_corrector [0]"),
        ("UniPCMultistepScheduler", {"lower_order_final": False}, "lower_order_final false"),
        ("DEISMultistepScheduler", {"solver_order": 1}, "solver_order 1"),
        ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, "use_dynamic_shifting true"),
        ("FlowMatchEulerDiscreteScheduler", {"shift_terminal": 0.1}, "shift_terminal 0.1"),
        (MULTISTEP, {**FLOW, **KARRAS}, "use_karras_sigmas true"),
        (MULTISTEP, {**FLOW, **LEAST}, 'final_sigmas_type "sigma_min"'),
        (MULTISTEP, {**FLOW, "algorithm_type": "sde-dpmsolver++"}, 'set it to "dpmsolver++" in'),
        ("UniPCMultistepScheduler", {**FLOW, **LEAST}, 'final_sigmas_type "sigma_min"'),
        ("DEISMultistepScheduler", {**FLOW, "use_beta_sigmas": True}, "use_beta_sigmas true"),
        ("EulerDiscreteScheduler", {"prediction_type": "flow_prediction"}, 'set it to "epsilon" or'),
        # what diffusers does not know either
        ("UniPCMultistepScheduler", {"solver_type": "bh3"}, 'solver_type "bh3"'),
        ("UniPCMultistepScheduler", {"solver_type": ["bh2"]}, 'solver_type ["bh2"]'),
        ("DEISMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, 'algorithm_type "sde-dpmsolver++"'),
        ("EulerDiscreteScheduler", {"timestep_spacing": "even"}, 'timestep_spacing "even"'),
        (
            "EulerDiscreteScheduler",
            {**LEAST, "final_sigmas_type": "least"},
            'set it to "zero" or "sigma_min"',
        ),
        ("EulerDiscreteScheduler", {"num_train_timesteps": "1000"}, "num_train_timesteps`; download"),
        ("EDMEulerScheduler", {}, "sdrt has no sampler for 'EDMEulerScheduler'"),
        ("", {}, "sdrt has no sampler for ''"),
    ],
)
def test_what_sdrt_cannot_do_is_refused(name, config, words):
    with pytest.raises(ExportError) as raised:
        read_scheduler({"_class_name": name, **config})
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
