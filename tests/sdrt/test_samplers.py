"""What holds of every sampler: it is finite, it ends at the picture, and its table is its response."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sdrt.errors import InputError, UnknownNameError
from sdrt.samplers import COLUMNS, SAMPLERS, SLOTS, NoiseSchedule, compile_sampler, find_sampler
from sdrt.samplers.spacing import beta_quantiles

SPACINGS = ("leading", "trailing", "linspace")
SIGMA_SCHEDULES = ("plain", "karras", "exponential", "beta")


@st.composite
def runs(draw, most_steps: int = 999):
    """A sampler's name and any schedule and settings it can have."""
    sampler = SAMPLERS[draw(st.sampled_from(sorted(SAMPLERS)))]
    prediction = draw(st.sampled_from(sampler.predictions))
    flow_solver = prediction == "flow" and sampler.name != "flow_euler"
    schedule = NoiseSchedule(
        beta_schedule=draw(st.sampled_from(["linear", "scaled_linear", "squaredcos_cap_v2"])),
        rescale_betas_zero_snr=draw(st.booleans()),
        prediction_type=prediction,
        timestep_spacing=draw(st.sampled_from(SPACINGS)),
        steps_offset=draw(st.sampled_from([0, 1])),
        set_alpha_to_one=draw(st.booleans()),
        sigma_schedule="plain" if flow_solver else draw(st.sampled_from(SIGMA_SCHEDULES)),
        final_sigmas_type=draw(st.sampled_from(["zero", "sigma_min"])),
        shift=draw(st.sampled_from([1.0, 3.0])),
    )
    most = min(most_steps, schedule.original_inference_steps if sampler.name in ("lcm", "tcd") else 999)
    steps = draw(st.one_of(st.integers(1, min(60, most)), st.integers(1, most)))
    start = draw(st.sampled_from([0, steps // 2, steps - 1]))
    eta = None if sampler.eta is None else draw(st.sampled_from([None, 0.0, 0.5, 1.0]))
    # 1000 leading timesteps, one of them of zero noise, do not fit with an offset
    assume(not (steps > 990 and schedule.timestep_spacing == "leading" and schedule.steps_offset))
    return sampler, schedule, {"steps": steps, "start": start, "eta": eta}


@settings(deadline=None, max_examples=400)
@given(run=runs())
def test_table_is_finite_and_well_formed(run):
    sampler, schedule, options = run
    table = compile_sampler(sampler.name, schedule, **options)
    evaluations, steps = table.evaluations, options["steps"] - options["start"]
    assert steps <= evaluations <= sampler.evaluations_per_step * steps + (sampler.name == "pndm")
    assert len(table.c_in) == len(table.alphas) == len(table.sigmas) == len(table.noisy) == evaluations
    assert table.matrices.shape == (evaluations, SLOTS, COLUMNS)
    told = (table.matrices, table.denoised, table.c_in, table.timesteps, table.initial_scale)
    for values in (*told, table.response()):
        assert np.isfinite(values).all()
    assert (table.c_in > 0).all()
    assert (table.c_in <= 1 + 1e-9).all()
    assert 0 <= table.timesteps.min() <= table.timesteps.max() <= 1000
    if options["eta"] == 0 or (not sampler.stochastic and not options["eta"]):
        assert not table.noisy.any()


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", [s.name for s in SAMPLERS.values() if len(s.spacings) > 1])
def test_most_steps(name, spacing):
    in_log_snr_space = SAMPLERS[name].step_function(NoiseSchedule(), None).func.__module__.split(".")[-1] in (
        "dpmpp",
        "unipc",
        "deis",
    )
    if in_log_snr_space and spacing == "leading":
        with pytest.raises(InputError, match=r"leading spacing starts 1000 timesteps at 1000, .* take fewer"):
            compile_sampler(name, NoiseSchedule(), 999, spacing=spacing)
    else:
        table = compile_sampler(name, NoiseSchedule(), 999, spacing=spacing)
        assert np.isfinite(table.matrices).all()


def replayed(table, x, m, z, dtype=np.float64):
    """x_0 .. x_E for given numbers, evaluation by evaluation, as the denoising loop does it."""
    state = np.zeros(SLOTS, dtype)
    state[0] = x
    rows = [state[0]]
    matrices = table.matrices.astype(dtype)
    for matrix, m_k, z_k in zip(matrices, m.astype(dtype), z.astype(dtype), strict=True):
        state = matrix @ np.array([*state, m_k, z_k], dtype)
        rows.append(state[0])
    return np.array(rows)


@settings(deadline=None, max_examples=150)
@given(run=runs(most_steps=60), seed=st.integers(0, 1000))
def test_response_is_the_replay(run, seed):
    sampler, schedule, options = run
    table = compile_sampler(sampler.name, schedule, **options)
    random = np.random.default_rng(seed)
    x, m, z = random.normal(), random.normal(size=table.evaluations), random.normal(size=table.evaluations)
    columns = np.array([x, *m, *z[table.noisy]])
    response = table.response()
    scale = np.abs(response) @ np.abs(columns)
    # UniPC carries x_0 times its weights of up to 1e3, and takes them off again
    assert (np.abs(response @ columns - replayed(table, x, m, z)) <= 1e-10 * scale.max()).all()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("name", "sigma_schedule"),
    [
        (s.name, sigma_schedule)
        for s in SAMPLERS.values()
        if s.name != "flow_euler"
        for sigma_schedule in (SIGMA_SCHEDULES if s.has_sigma_schedules else ("plain",))
    ],
)
def test_float32_replay(name, prediction, sigma_schedule):
    """What the loop does in float32 is within 1e-5 of float64, over 100 steps and relative to the latents.

    The network stands for one picture plus an error of its own, so that x stays what x is in a run.
    """
    schedule = NoiseSchedule(prediction_type=prediction, sigma_schedule=sigma_schedule)
    table = compile_sampler(name, schedule, 50 if name in ("lcm", "tcd") else 100)
    random = np.random.default_rng(7)
    pictures, noises = random.normal(size=8), random.normal(size=8)
    drawn = random.normal(size=(8, table.evaluations))
    for picture, noise, z in zip(pictures, noises, drawn, strict=True):
        errors = 0.3 * random.normal(size=table.evaluations)
        exact, m = _run(table, prediction, picture, noise, z, errors)
        rounded = replayed(table, noise * table.initial_scale, m, z, np.float32)
        unit = np.hypot(np.append(table.alphas, 1.0), np.append(table.sigmas, 0.0))
        assert (np.abs(rounded - exact) / unit).max() <= 1e-5 * (np.abs(exact) / unit).max()


def _run(table, prediction, picture, noise, z, errors):
    """x_0 .. x_E, and the raw predictions of a network that sees `picture` with some error."""
    state = np.zeros(SLOTS)
    state[0] = noise * table.initial_scale
    rows, predictions = [state[0]], []
    for k, matrix in enumerate(table.matrices):
        alpha, sigma, c_in = table.alphas[k], table.sigmas[k], table.c_in[k]
        x_0 = picture + errors[k] * min(sigma, alpha) / max(alpha, 1e-9)
        epsilon = (state[0] - alpha * x_0) / sigma
        m = {
            "epsilon": epsilon,
            "v_prediction": c_in * (alpha * epsilon - sigma * x_0),
            "sample": x_0,
            "flow": epsilon - x_0,
        }[prediction]
        predictions.append(m)
        state = matrix @ [*state, m, z[k]]
        rows.append(state[0])
    return np.array(rows), np.array(predictions)


@settings(deadline=None, max_examples=600)
@given(run=runs(most_steps=200), picture=st.floats(-3, 3), noise=st.floats(-3, 3))
def test_perfect_denoiser_of_one_picture_gives_it(run, picture, noise):
    """Whatever the sampler, a network that always sees one picture ends in it, and in the last noise."""
    sampler, schedule, options = run
    if sampler.name == "pndm":
        # as in diffusers it extrapolates v itself, which changes along the way though the picture does not,
        # and takes steps of 1000 // steps, which with other spacings do not meet
        assume(schedule.prediction_type != "v_prediction" and schedule.timestep_spacing == "leading")
    table = compile_sampler(sampler.name, schedule, **options)
    z = np.random.default_rng(0).normal(size=table.evaluations)
    rows, _ = _run(table, schedule.prediction_type, picture, noise, z, np.zeros(table.evaluations))
    legs = sampler.path(schedule, options["steps"]).legs
    end = legs[-1][1]
    assume(legs[options["start"]][0] != end)  # a run of no length ends where it starts
    noise_on_the_way = np.abs(rows[:-1] - table.alphas * picture) / table.sigmas
    left = abs(rows[-1] - end.alpha * picture)
    # there and back through the multistep solvers' extrapolation, 6 is more than any has
    assert left <= 6.0 * end.sigma * (np.abs(z).max() + noise_on_the_way.max()) + _tolerance(
        sampler, table, rows
    )


def _tolerance(sampler, table, rows) -> float:
    if sampler.name == "lcm":  # its consistency function keeps c_skip of x: 0.25 / (10 t)^2
        c_skip = 0.25 / (10.0 * table.timesteps[-1]) ** 2
        return 2.0 * c_skip * np.abs(rows).max() + 1e-9
    # UniPC and the third-order solvers amplify the rounding of x_0, which is eps x / alpha
    return 1e-7 * np.abs(rows).max() + 1e-7 * float((table.sigmas / np.maximum(table.alphas, 1e-9)).max())


def test_quantiles_of_the_beta_distribution():
    scipy_stats = pytest.importorskip("scipy.stats")
    p = np.concatenate([np.linspace(0.0, 1.0, 1001), 10.0 ** -np.arange(1, 12)])
    for a in (0.3, 0.6, 0.9):
        np.testing.assert_allclose(
            beta_quantiles(p, a), scipy_stats.beta.ppf(p, a, a), rtol=1e-12, atol=1e-15
        )


@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "dpmpp_2m_sde_heun"])
def test_sde_solvers_without_noise_are_the_ode_solvers(name):
    sde = compile_sampler(name, NoiseSchedule(), 20, eta=0.0)
    ode = compile_sampler(name.replace("_sde", ""), NoiseSchedule(), 20)
    np.testing.assert_array_equal(sde.matrices, ode.matrices)


def test_third_order_sde_without_noise_differs_in_its_second_step_alone():
    """k-diffusion weighs the slope there by phi_2, diffusers by half of 1 - e^-h."""
    sde = compile_sampler("dpmpp_3m_sde", NoiseSchedule(), 20, eta=0.0).matrices
    ode = compile_sampler("dpmpp_3m", NoiseSchedule(), 20).matrices
    differing = [index for index in range(20) if not np.array_equal(sde[index], ode[index])]
    assert differing == [1]


@pytest.mark.parametrize(
    ("spelling", "name", "sigma_schedule"),
    [
        *((n, s.name, None) for s in SAMPLERS.values() for n in (s.name, s.title, *s.aliases)),
        *(
            (f"{n}{separator}{ending}", s.name, ending.lower())
            for s in SAMPLERS.values()
            if s.has_sigma_schedules
            for n, separator in ((s.title, " "), (s.name, "_"))
            for ending in ("Karras", "exponential", "beta")
        ),
        ("DPM++ 2M Karras", "dpmpp_2m", "karras"),
        ("dpm++ 2m", "dpmpp_2m", None),
        ("DPM++ 2M SDE Karras", "dpmpp_2m_sde", "karras"),
        ("DPM++ 3M SDE Exponential", "dpmpp_3m_sde", "exponential"),
        ("Euler a", "euler_a", None),
        ("DPM2 a Karras", "dpm_2_a", "karras"),
        ("PLMS", "pndm", None),
        # k-diffusion and ComfyUI
        ("sample_euler_ancestral", "euler_a", None),
        ("sample_dpm_2", "dpm_2", None),
        ("sample_dpmpp_2s_ancestral", "dpmpp_2s_a", None),
        ("dpmpp_3m_sde_gpu", "dpmpp_3m_sde", None),
        ("dpm_2_ancestral", "dpm_2_a", None),
        ("uni_pc_bh2", "unipc", None),
        ("k_dpmpp_2m_karras", "dpmpp_2m", "karras"),
        ("K_EULER", "euler", None),
        ("k_euler_a", "euler_a", None),
        ("k_lms", "lms", None),
        # InvokeAI, whose _k is Karras
        ("dpmpp_2m_sde_k", "dpmpp_2m_sde", "karras"),
        ("kdpm_2_a", "dpm_2_a", None),
        ("euler_k", "euler", "karras"),
        ("dpmpp_2s", "dpmpp_single_2", None),
        ("EulerAncestralDiscreteScheduler", "euler_a", None),
    ],
)
def test_names_of_other_tools(spelling, name, sigma_schedule):
    sampler, named = find_sampler(spelling)
    assert (sampler.name, named) == (name, sigma_schedule)


def test_every_alias_names_one_sampler():
    spellings = [find_sampler(n)[0].name for s in SAMPLERS.values() for n in (s.title, *s.aliases)]
    assert spellings == [s.name for s in SAMPLERS.values() for _ in (s.title, *s.aliases)]


def test_karras_in_the_name_is_the_option():
    by_name = compile_sampler("DPM++ 2M Karras", NoiseSchedule(), 7)
    by_option = compile_sampler("dpmpp_2m", NoiseSchedule(), 7, sigma_schedule="karras")
    by_schedule = compile_sampler("dpmpp_2m", NoiseSchedule(sigma_schedule="karras"), 7)
    plain = compile_sampler("dpmpp_2m", NoiseSchedule(sigma_schedule="karras"), 7, sigma_schedule="plain")
    np.testing.assert_array_equal(by_name.matrices, by_option.matrices)
    np.testing.assert_array_equal(by_name.matrices, by_schedule.matrices)
    assert not np.array_equal(by_name.matrices, plain.matrices)


@pytest.mark.parametrize("name", ["", "karras", "ddim karras", "eular", "dpmpp", "\0", "☃", "k"])
def test_unknown_name(name):
    with pytest.raises(UnknownNameError, match="did you mean"):
        find_sampler(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [("eular", "euler"), ("DPM++ 2M SDE Karas", "DPM"), ("dpmpp_4m", "dpmpp_3m"), ("unipc3d", "unipc_3")],
)
def test_unknown_name_lists_the_nearest(name, near):
    with pytest.raises(UnknownNameError, match=near):
        find_sampler(name)


@pytest.mark.parametrize("steps", [0, -1, 1000, 10**30])
def test_step_counts_the_schedule_cannot_hold(steps):
    with pytest.raises(InputError, match=f"steps is {steps}; expected 1 to 999"):
        compile_sampler("euler", NoiseSchedule(), steps)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ddim", {"sigma_schedule": "karras"}, "DDIM has no Karras noise levels; leave --sigma-schedule and"),
        ("lcm", {"spacing": "leading"}, "LCM places its timesteps in one way only; leave --spacing out"),
        ("dpmpp_2s", {"spacing": "trailing"}, "places its timesteps in linspace only"),
        ("euler", {"eta": 0.5}, "Euler has no eta; leave --eta out"),
        ("ddim", {"eta": 1.5}, "eta is 1.5; expected 0"),
        ("ddim", {"eta": float("nan")}, "eta is nan; expected 0"),
        ("euler", {"start": 20}, "start is 20; expected 0 to 19"),
        ("euler", {"start": -1}, "start is -1; expected 0 to 19"),
        ("flow_euler", {}, "Flow Euler is not for models that predict epsilon; take ddim or"),
    ],
)
def test_options_a_sampler_does_not_have(name, options, message):
    with pytest.raises(InputError, match=message):
        compile_sampler(name, NoiseSchedule(), 20, **options)


def test_distilled_samplers_know_few_steps():
    with pytest.raises(InputError, match="steps is 51; this sampler knows the 50 steps"):
        compile_sampler("lcm", NoiseSchedule(), 51)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "flow_euler"])
def test_start_is_compiled_and_not_sliced(name):
    """A run from the middle has no memory of the steps it did not take."""
    whole = compile_sampler(name, NoiseSchedule(), 10)
    part = compile_sampler(name, NoiseSchedule(), 10, start=4)
    np.testing.assert_array_equal(part.timesteps[-1], whole.timesteps[-1])
    assert part.initial_scale == part.sigmas[0]
    matrices = part.matrices
    clean, littered = np.zeros(SLOTS), np.full(SLOTS, 1e3)
    clean[0] = littered[0] = 1.0
    for matrix in matrices:
        clean, littered = matrix @ [*clean, 0.3, 0.1], matrix @ [*littered, 0.3, 0.1]
    assert clean[0] == littered[0]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("start", [0, 2])
def test_every_evaluation_knows_its_step(name, start):
    schedule = NoiseSchedule(prediction_type=SAMPLERS[name].predictions[0])
    table = compile_sampler(name, schedule, 6, start=start)
    assert sorted(set(table.steps)) == list(range(start, 6))
    assert len(table.steps) == table.evaluations
    assert (np.diff(table.steps) >= 0).all()


def test_steps_of_two_evaluations():
    steps = {
        name: compile_sampler(name, NoiseSchedule(), 3).steps.tolist() for name in ("heun", "pndm", "ddim")
    }
    assert steps == {"heun": [0, 0, 1, 1, 2], "pndm": [0, 0, 1, 2], "ddim": [0, 1, 2]}


def test_documented():
    """docs/samplers.md has each sampler, as the table of samplers has it."""
    text = (Path(__file__).parents[2] / "docs" / "samplers.md").read_text()
    for s in SAMPLERS.values():
        eta = "" if s.eta is None else f"{s.eta:g}"
        scheduler = next((alias for alias in s.aliases if alias.endswith("Scheduler")), "")
        noise = "yes" if s.stochastic else "no"
        cells = (s.name, s.title, s.order, s.evaluations_per_step, noise, eta, scheduler)
        assert f"| {' | '.join(map(str, cells))} |" in text
