"""Noise levels by name against the formulas of the programs that they come from, written down once more here.

Written with torch and scipy, in float32 where those programs compute in it; tables are compared to 1e-6.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from sdrt.errors import InputError, UnknownNameError
from sdrt.samplers import SAMPLERS, SCHEDULES, NoiseSchedule, compile_sampler, schedule_name

torch = pytest.importorskip("torch")
stats = pytest.importorskip("scipy.stats")

SCHEDULE = NoiseSchedule()
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
KEPT = torch.cumprod(1 - BETAS, 0)
STEPS = [1, 2, 3, 7, 10, 11, 20, 30, 50]


class Trained:
    """A model's noise as a program has it: ComfyUI in float64, AUTOMATIC1111 of alphas_cumprod in float32."""

    def __init__(self, alphas_cumprod):
        self.sigmas = ((1 - alphas_cumprod) / alphas_cumprod).sqrt()
        self.log = self.sigmas.log()
        self.least, self.most = float(self.sigmas[0]), float(self.sigmas[-1])

    def sigma_at(self, t):
        low, high, part = t.floor().long(), t.ceil().long(), t - t.floor()
        return ((1 - part) * self.log[low] + part * self.log[high]).exp()

    def fractional_timestep(self, sigma):
        """k-diffusion's DiscreteSchedule without quantisation."""
        low = int((math.log(sigma) >= self.log).sum().clamp(1, 999)) - 1
        part = (self.log[low] - math.log(sigma)) / (self.log[low] - self.log[low + 1])
        return float(low + part.clamp(0, 1))


AUTOMATIC, COMFYUI = Trained(KEPT.float().double()), Trained(KEPT)


def trained_of(name):
    return COMFYUI if name.startswith("comfyui:") else AUTOMATIC


def even(at, n, points=None):
    return at.sigma_at(torch.linspace(999, 0, points or n, dtype=torch.float64)[:n])


def karras(at, n):
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    return (at.most ** (1 / 7) + ramp * (at.least ** (1 / 7) - at.most ** (1 / 7))) ** 7


def exponential(at, n):
    return torch.linspace(math.log(at.most), math.log(at.least), n, dtype=torch.float64).exp()


def simple(at, n):
    return torch.stack([at.sigmas[-(1 + int(x * 1000 / n))] for x in range(n)])


def ddim_uniform(at, n):
    return torch.stack([at.sigmas[x] for x in range(1, 1000, max(1000 // n, 1))][::-1])


def linear_quadratic(at, n):
    if n == 1:
        return torch.tensor([at.most])
    half, threshold = n // 2, 0.025
    rest = n - half
    difference = half - threshold * n
    square = difference / (half * rest**2)
    slope = threshold / half - 2 * difference / rest**2
    removed = [i * threshold / half for i in range(half)]
    removed += [square * i**2 + slope * i + square * half**2 for i in range(half, n)]
    return (1 - torch.tensor(removed, dtype=torch.float64)) * at.most


def automatic_beta(at, n):
    quantiles = stats.beta.ppf(np.linspace(1, 0, n), 0.6, 0.6)
    return torch.tensor(at.least + quantiles * (at.most - at.least))


def comfyui_beta(at, n):
    whole = np.rint(stats.beta.ppf(1 - np.linspace(0, 1, n, endpoint=False), 0.6, 0.6) * 999)
    return torch.stack([at.sigmas[int(t)] for i, t in enumerate(whole) if i == 0 or t != whole[i - 1]])


def arctan(at, n, last):
    share = torch.arange(n, dtype=torch.float64) / max(last, 1)
    return (share * math.atan(at.least) + (1 - share) * math.atan(at.most)).tan()


def stretched(levels, count):
    old, new = np.linspace(0, 1, len(levels)), np.linspace(0, 1, count)
    return torch.tensor(np.exp(np.interp(new, old, np.log(levels[::-1])))[::-1].copy())


AYS = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029]
AYS_XL = [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029]
AYS_COMFYUI = [
    *(14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092),
    *(0.9642583904, 0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582),
]
BOTH = {
    "normal": even,
    "karras": karras,
    "exponential": exponential,
    "polyexponential": exponential,
    "sgm_uniform": lambda at, n: even(at, n, n + 1),
    "simple": simple,
    "ddim_uniform": ddim_uniform,
    "linear_quadratic": linear_quadratic,
}
THEIRS = {
    **BOTH,
    **{f"comfyui:{name}": rule for name, rule in BOTH.items()},
    "beta": automatic_beta,
    "comfyui:beta": comfyui_beta,
    "kl_optimal": lambda at, n: arctan(at, n + 1, n)[:-1],
    "comfyui:kl_optimal": lambda at, n: arctan(at, n, n - 1),
    "align_your_steps": lambda at, n: stretched(AYS, n),
    "comfyui:align_your_steps": lambda at, n: stretched(AYS_COMFYUI, n + 1)[:-1],
}


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("steps", STEPS)
def test_levels_and_timesteps_are_theirs(name, steps):
    table = compile_sampler("euler", SCHEDULE, steps, levels=name)
    trained = trained_of(name)
    expected = THEIRS[name](trained, steps).double().numpy()
    np.testing.assert_allclose(table.sigmas, expected, rtol=1e-6)
    if trained is AUTOMATIC:
        told = [trained.fractional_timestep(one) for one in expected]
        np.testing.assert_allclose(table.timesteps, told, atol=2e-3)  # levels are rounded to float32
        return
    for sigma, timestep in zip(expected, table.timesteps, strict=True):
        # halfway between two timesteps float32 decides
        off = abs(math.log(sigma) - trained.log)
        assert timestep == int(timestep) and off[int(timestep)] <= off.min() + 1e-6


@pytest.mark.parametrize("name", sorted({*SCHEDULES} - {"comfyui:gits", "gits", "time_uniform"}))
def test_pure_noise_is_scaled_as_theirs(name):
    """AUTOMATIC1111: sigma; ComfyUI: sqrt(1 + sigma^2) where the run starts at the most noise."""
    for sampler, alpha in (("euler", 1.0), ("dpmpp_2m", None)):
        table = compile_sampler(sampler, SCHEDULE, 8, levels=name)
        first = table.sigmas[0] / table.alphas[0]
        scale = first
        if name.startswith("comfyui:") and math.isclose(first, COMFYUI.most, rel_tol=1e-5):
            scale = math.hypot(1.0, first)
        np.testing.assert_allclose(table.initial_scale, scale * (alpha or table.alphas[0]), rtol=1e-6)


def test_where_they_end():
    for name in SCHEDULES:
        table = compile_sampler("euler", SCHEDULE, 6, levels=name)
        ends = AUTOMATIC.least if name in ("kl_optimal", "time_uniform") else 0.0
        # the last step of Euler adds (sigma' - sigma) times the prediction
        final = table.sigmas[-1] + table.matrices[-1, 0, 5]
        assert final == pytest.approx(ends, abs=1e-6), name


def test_gits_are_the_published_levels():
    """The rows of 4 and of 10 steps at the coefficient 1.2, and what 25 steps make of that of 20."""
    four = compile_sampler("euler", SCHEDULE, 4, levels="comfyui:gits").sigmas
    np.testing.assert_allclose(four, [14.61464119, 2.36326075, 0.92192322, 0.36617002], rtol=1e-7)
    ten = compile_sampler("euler", SCHEDULE, 10, levels="comfyui:gits").sigmas
    published = [14.61464119, 5.85520077, 2.84484982, 1.67050016, 1.08895338, 0.74807048, 0.50118381,
                 0.32104823, 0.19894916, 0.09824532]  # fmt: skip
    np.testing.assert_allclose(ten, published, rtol=1e-7)
    assert compile_sampler("euler", SCHEDULE, 25, levels="comfyui:gits").evaluations == 25
    with pytest.raises(InputError):
        compile_sampler("euler", SCHEDULE, 1, levels="comfyui:gits")


def test_models_with_sizes_have_levels_of_their_own():
    table = compile_sampler("euler", SCHEDULE, 11, levels="align_your_steps", model="sdxl")
    np.testing.assert_allclose(table.sigmas, AYS_XL, rtol=1e-6)


@pytest.mark.parametrize(
    ("sampler", "name", "skipped"),
    [
        ("dpm_2", "karras", True),
        ("dpm_2_a", "comfyui:karras", True),
        ("unipc_3", "comfyui:karras", True),
        ("unipc_3", "karras", False),
        ("dpmpp_2m", "comfyui:karras", False),
    ],
)
def test_the_level_before_the_end_is_left_out_for_some(sampler, name, skipped):
    table = compile_sampler(sampler, SCHEDULE, 10, levels=name)
    starts = (table.sigmas / table.alphas)[np.unique(table.steps, return_index=True)[1]]
    trained = trained_of(name)
    expected = karras(trained, 11)[:-1] if skipped else karras(trained, 10)
    np.testing.assert_allclose(starts, expected.numpy(), rtol=1e-6)


def test_more_levels_than_steps_count_as_the_last_step():
    """1000 // 30 leaves room for 31 levels; prompts and guidance know 30 steps."""
    table = compile_sampler("euler", SCHEDULE, 30, levels="ddim_uniform")
    assert table.evaluations == 31 and table.steps.tolist() == [*range(30), 29]


@pytest.mark.parametrize("name", ["normal", "comfyui:normal"])
def test_a_run_may_start_in_the_middle(name):
    whole = compile_sampler("euler", SCHEDULE, 10, levels=name)
    rest = compile_sampler("euler", SCHEDULE, 10, levels=name, start=6)
    np.testing.assert_array_equal(rest.sigmas, whole.sigmas[6:])
    assert rest.initial_scale == whole.sigmas[6]
    # ComfyUI takes the last steps, AUTOMATIC1111 leaves the first ones out
    more = compile_sampler("euler", SCHEDULE, 30, levels=name.replace("normal", "ddim_uniform"), start=20)
    assert more.evaluations == (10 if name.startswith("comfyui") else 11)


@pytest.mark.parametrize("sampler", [one for one in SAMPLERS.values() if one.space is not None])
@pytest.mark.parametrize("levels", ["normal", "comfyui:beta", (10.0, 3.0, 1.0, 0.2, 0.0)])
def test_a_perfect_network_ends_in_its_picture(sampler, levels):
    """A network that always says the same x_0 is believed: all of the result is its prediction."""
    steps = 4 if isinstance(levels, tuple) else 12
    schedule = NoiseSchedule(prediction_type="sample")
    table = compile_sampler(sampler.name, schedule, steps, levels=levels, eta=0.0 if sampler.eta else None)
    result = table.response()[-1]
    assert np.isfinite(result).all()
    # ComfyUI's UniPC ends with a thousandth of noise
    assert result[1 : 1 + table.evaluations].sum() == pytest.approx(1.0, abs=2e-3)


def test_listed_levels():
    table = compile_sampler("euler", SCHEDULE, 3, levels=(14.6, 3, 0.5))
    np.testing.assert_allclose(table.sigmas, [14.6, 3, 0.5])
    for wrong in ((), (0.0,), (1, 2, 0), (1, 1, 0), (float("nan"), 0), (float("inf"), 1, 0), (1, -1)):
        with pytest.raises(InputError, match="falling numbers"):
            compile_sampler("euler", SCHEDULE, 3, levels=wrong)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("SGM Uniform", "sgm_uniform"),
        ("Uniform", "normal"),
        ("Align Your Steps", "align_your_steps"),
        ("DDIM", "ddim_uniform"),
        ("KL Optimal", "kl_optimal"),
        ("ComfyUI:SGM_uniform", "comfyui:sgm_uniform"),
    ],
)
def test_spellings(spelling, name):
    assert schedule_name(spelling) == name


@pytest.mark.parametrize("name", ["carras", "a1111:karras", "", ":", "comfyui:"])
def test_unknown_names(name):
    with pytest.raises(UnknownNameError):
        schedule_name(name)


@pytest.mark.parametrize(
    ("sampler", "settings"),
    [
        ("ddim", {}),
        ("lcm", {}),
        ("euler", {"spacing": "leading"}),
        ("euler", {"sigma_schedule": "karras"}),
        ("DPM++ 2M Karras", {}),
    ],
)
def test_two_ways_to_say_the_levels_are_one_too_many(sampler, settings):
    with pytest.raises(InputError):
        compile_sampler(sampler, SCHEDULE, 5, levels="normal", **settings)
