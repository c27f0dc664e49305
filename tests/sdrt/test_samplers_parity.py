"""Every sampler against diffusers: the whole response table, read off with one-hot float64 tensors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sdrt.samplers import NoiseSchedule, compile_sampler

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

CLASSES = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
}
# diffusers keeps sigmas, and computes lambda, in float32: differences of nearly equal ones leave this much
TOLERANCE = 2e-6


def response_of(scheduler, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Push one-hot tensors through `scheduler`: timesteps, c_in and the table of inputs x_0 .. x_E."""
    scheduler.set_timesteps(steps)
    columns = torch.eye(1 + len(scheduler.timesteps), dtype=torch.float64)
    x, rows, c_in = columns[0], [columns[0]], []
    for k, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(x, t)
        big = int(x.abs().argmax())
        c_in.append(float(scaled[big] / x[big]))
        x = scheduler.step(columns[1 + k], t, x).prev_sample.double()
        rows.append(x)
    return scheduler.timesteps.double().numpy(), np.array(c_in), torch.stack(rows).numpy()


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 10, 20, 50, 100])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    ("name", "spacing", "karras"),
    [
        (name, spacing, karras)
        for name, spacing, karras in itertools.product(
            CLASSES, ["leading", "trailing", "linspace"], [False, True]
        )
        if not (karras and name == "ddim")
    ],
)
def test_response_equals_diffusers(name, spacing, karras, prediction, steps):
    schedule = NoiseSchedule(prediction_type=prediction, timestep_spacing=spacing)
    settings = (
        {"clip_sample": False, "set_alpha_to_one": False} if name == "ddim" else {"use_karras_sigmas": karras}
    )
    scheduler = getattr(diffusers, CLASSES[name])(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        timestep_spacing=spacing,
        steps_offset=1,
        **settings,
    )
    timesteps, c_in, response = response_of(scheduler, steps)
    table = compile_sampler(name, schedule, steps, karras=karras)

    # the network was trained on integer timesteps; fractional ones are float32 in diffusers
    np.testing.assert_allclose(table.timesteps, timesteps, rtol=0, atol=2e-3)
    np.testing.assert_allclose(table.c_in, c_in, rtol=TOLERANCE)
    error = np.abs(table.response() - response).max() / np.abs(response).max()
    assert error <= TOLERANCE
    assert table.initial_scale == pytest.approx(float(scheduler.init_noise_sigma), rel=TOLERANCE)
