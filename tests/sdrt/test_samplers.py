"""What holds of every sampler: it is finite, it ends at the picture, and its table is its response."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdrt.errors import InputError, UnknownNameError
from sdrt.samplers import COLUMNS, SAMPLERS, SLOTS, NoiseSchedule, compile_sampler, find_sampler

PREDICTIONS = ["epsilon", "v_prediction", "sample"]
schedules = st.builds(
    NoiseSchedule,
    beta_schedule=st.sampled_from(["linear", "scaled_linear"]),
    prediction_type=st.sampled_from(PREDICTIONS),
    timestep_spacing=st.sampled_from(["leading", "trailing", "linspace"]),
    steps_offset=st.sampled_from([0, 1]),
    set_alpha_to_one=st.booleans(),
)
names = st.sampled_from([(s.name, k) for s in SAMPLERS.values() for k in {False, s.has_karras}])


@settings(deadline=None, max_examples=200)
@given(name=names, schedule=schedules, steps=st.one_of(st.integers(1, 60), st.integers(61, 998)))
def test_table_is_finite_and_well_formed(name, schedule, steps):
    sampler, karras = name
    table = compile_sampler(sampler, schedule, steps, karras=karras)
    assert table.evaluations == len(table.c_in) == len(table.noisy) == steps
    assert table.matrices.shape == (steps, SLOTS, COLUMNS)
    for values in (table.matrices, table.c_in, table.timesteps, table.initial_scale):
        assert np.isfinite(values).all()
    assert (table.c_in > 0).all()
    assert (table.c_in <= 1 + 1e-9).all()
    assert (np.diff(table.timesteps) <= 0).all()
    # what the network was trained on: 0 .. 999
    assert 0 <= table.timesteps.min() <= table.timesteps.max() <= 999 + schedule.steps_offset
    # no deterministic sampler reads noise
    assert SAMPLERS[sampler].stochastic == table.noisy.any()


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_most_steps(name, spacing):
    if (name, spacing) == ("dpmpp_2m", "leading"):
        with pytest.raises(InputError, match=r"leading spacing starts 1000 timesteps at 1000, .* take fewer"):
            compile_sampler(name, NoiseSchedule(), 999, spacing=spacing)
    else:
        table = compile_sampler(name, NoiseSchedule(), 999, spacing=spacing)
        assert np.isfinite(table.matrices).all()


@settings(deadline=None, max_examples=60)
@given(name=names, schedule=schedules, steps=st.integers(1, 40), seed=st.integers(0, 1000))
def test_response_is_the_replay(name, schedule, steps, seed):
    sampler, karras = name
    table = compile_sampler(sampler, schedule, steps, karras=karras)
    random = np.random.default_rng(seed)
    x, m, z = random.normal(), random.normal(size=steps), random.normal(size=steps)
    state = np.zeros(SLOTS)
    state[0] = x
    replayed = [x]
    for matrix, m_k, z_k in zip(table.matrices, m, z, strict=True):
        state = matrix @ [*state, m_k, z_k]
        replayed.append(state[0])
    columns = np.array([x, *m, *z[table.noisy]])
    response = table.response()
    scale = np.abs(response) @ np.abs(columns)
    assert (np.abs(response @ columns - replayed) <= 1e-12 * scale).all()


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 200])
@pytest.mark.parametrize(
    ("name", "karras"),
    [(s.name, k) for s in SAMPLERS.values() for k in (False, True) if s.has_karras or not k],
)
def test_network_that_predicts_one_picture_gives_it(name, karras, steps):
    """Told x_0 itself, the noise drops out, and the weights of the predictions add up to one."""
    schedule = NoiseSchedule(prediction_type="sample", set_alpha_to_one=True)
    result = compile_sampler(name, schedule, steps, karras=karras).response()[-1]
    assert result[0] == pytest.approx(0, abs=1e-9)
    assert result[1:].sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 200])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_perfect_denoiser_of_one_picture_gives_it(name, prediction, steps):
    schedule = NoiseSchedule(prediction_type=prediction, set_alpha_to_one=True)
    table = compile_sampler(name, schedule, steps)
    alphas_cumprod = schedule.alphas_cumprod()
    x_0 = 0.7
    state = np.zeros(SLOTS)
    state[0] = 1.3 * table.initial_scale
    for matrix, c_in, t in zip(table.matrices, table.c_in, table.timesteps, strict=True):
        a = np.interp(t, np.arange(1000), alphas_cumprod)  # leading timesteps are whole
        seen = c_in * state[0]
        epsilon = (seen - np.sqrt(a) * x_0) / np.sqrt(1 - a)
        v = np.sqrt(a) * epsilon - np.sqrt(1 - a) * x_0
        state = matrix @ [*state, epsilon if prediction == "epsilon" else v, 0.0]
    # tables hold float32 timesteps and noise levels, as diffusers does, and the first has 15 times more noise
    assert state[0] == pytest.approx(x_0, abs=1e-5)


@pytest.mark.parametrize(
    ("spelling", "name", "karras"),
    [
        *((n, s.name, False) for s in SAMPLERS.values() for n in (s.name, s.title, *s.aliases)),
        *((f"{n} Karras", s.name, True) for s in SAMPLERS.values() if s.has_karras for n in (s.title,)),
        *((f"{s.name}_karras", s.name, True) for s in SAMPLERS.values() if s.has_karras),
        ("DPM++ 2M Karras", "dpmpp_2m", True),
        ("dpm++ 2m", "dpmpp_2m", False),
        ("k_dpmpp_2m_karras", "dpmpp_2m", True),
        ("DPMSolverMultistepScheduler", "dpmpp_2m", False),
        ("K_EULER", "euler", False),
        ("DDIM", "ddim", False),
    ],
)
def test_names_of_other_tools(spelling, name, karras):
    sampler, named_karras = find_sampler(spelling)
    assert (sampler.name, named_karras) == (name, karras)


def test_every_alias_names_one_sampler():
    spellings = [find_sampler(n)[0].name for s in SAMPLERS.values() for n in (s.title, *s.aliases)]
    assert spellings == [s.name for s in SAMPLERS.values() for _ in (s.title, *s.aliases)]


def test_karras_in_the_name_is_the_option():
    by_name = compile_sampler("DPM++ 2M Karras", NoiseSchedule(), 7)
    by_option = compile_sampler("dpmpp_2m", NoiseSchedule(), 7, karras=True)
    plain = compile_sampler("dpmpp_2m", NoiseSchedule(), 7)
    np.testing.assert_array_equal(by_name.matrices, by_option.matrices)
    assert not np.array_equal(by_name.matrices, plain.matrices)


@pytest.mark.parametrize("name", ["", "karras", "ddim karras", "eular", "dpmpp", "\0", "☃"])
def test_unknown_name(name):
    with pytest.raises(UnknownNameError, match="did you mean"):
        find_sampler(name)


@pytest.mark.parametrize("steps", [0, -1, 1000, 10**30])
def test_step_counts_the_schedule_cannot_hold(steps):
    with pytest.raises(InputError, match=f"steps is {steps}; expected 1 to 999"):
        compile_sampler("euler", NoiseSchedule(), steps)


def test_karras_where_there_is_none():
    with pytest.raises(InputError, match="DDIM has no Karras noise levels; leave --karras out"):
        compile_sampler("ddim", NoiseSchedule(), 20, karras=True)
