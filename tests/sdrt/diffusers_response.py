"""A diffusers scheduler read as a matrix: push one-hot tensors through `step` and see where they come out.

A scheduler is linear in the latents, the network's outputs and the noise, so that this is all it does.
"""

from __future__ import annotations

import importlib
import sys
import types
from contextlib import contextmanager
from dataclasses import dataclass

import diffusers
import numpy as np
import torch

sys.modules.setdefault("torchsde", types.ModuleType("torchsde"))  # its Brownian tree is replaced below


@dataclass(frozen=True)
class Response:
    """timesteps, c_in: [E]; table: [E + 1, 1 + E + draws] float64, as `SamplerTable.response`."""

    timesteps: np.ndarray
    c_in: np.ndarray
    table: np.ndarray
    initial_scale: float


def scheduler_class(name: str) -> type:
    """A scheduler by its class name, DPMSolverSDEScheduler also where torchsde is not installed."""
    if name == "DPMSolverSDEScheduler":
        return importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_sde").DPMSolverSDEScheduler
    return getattr(diffusers, name)


def response_of(
    scheduler,
    steps: int,
    *,
    start: int = 0,
    levels=None,
    alphas_cumprod=None,
    lms_order: int | None = None,
    eta: float | None = None,
) -> Response:
    """Read `scheduler` from step `start` on.

    levels: noise-to-signal ratios of the steps and of the end, [steps + 1], to use in place of the
    scheduler's own, in float64 arithmetic; with None the scheduler is left as it is, which is mostly float32.
    alphas_cumprod: the same for a scheduler that steps between training timesteps.
    lms_order, eta: for those schedulers whose `step` takes them.
    """
    scheduler.set_timesteps(steps)
    initial_scale = float(getattr(scheduler, "init_noise_sigma", 1.0))
    times = _timesteps(scheduler, start)
    count = len(times)
    columns = torch.eye(1 + 2 * count, dtype=torch.float64)[:, None]  # each [1, columns]
    x, rows, c_in = columns[0], [columns[0]], []
    with _noise_from(scheduler, _Noise(columns[1 + count :])), _in_float64(scheduler, levels, alphas_cumprod):
        for k, t in enumerate(times):
            c_in.append(_c_in(scheduler, x, t))
            options = {} if eta is None else {"eta": eta}
            if lms_order is not None:
                # from a step in the middle diffusers uses weights of an order it has no history for
                options["order"] = min(lms_order, k + 1)
            x = scheduler.step(columns[1 + k], t, x, **options).prev_sample.double()
            rows.append(x)
    table = torch.cat(rows).numpy()
    # DDPM's last variance is clamped at 1e-20: what is left of that draw is no noise
    drawn = 1 + count + np.flatnonzero(np.abs(table[:, 1 + count :]).max(axis=0) > 1e-9)
    return Response(
        timesteps=times.double().numpy(),
        c_in=np.array(c_in),
        table=table[:, [*range(1 + count), *drawn]],
        initial_scale=initial_scale,
    )


def _timesteps(scheduler, start: int) -> torch.Tensor:
    times = scheduler.timesteps[start * scheduler.order :]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start * scheduler.order)
    if type(scheduler).__name__ == "PNDMScheduler" and start:
        # the second entry is there twice, and a slice of the list that diffusers takes is one step off
        each = [*scheduler.timesteps[:1], *scheduler.timesteps[2:]][start:]
        times = torch.stack([*each[:2], *each[1:]])
    return times


def _c_in(scheduler, x: torch.Tensor, t: torch.Tensor) -> float:
    if not hasattr(scheduler, "scale_model_input"):
        return 1.0
    largest = int(x.abs().argmax())
    return float(scheduler.scale_model_input(x, t)[0, largest] / x[0, largest])


class _Noise:
    """One-hot noise, a new one with every draw, and a Brownian motion made of it."""

    def __init__(self, columns: torch.Tensor) -> None:
        self._columns = iter(columns)

    def draw(self, *_, **__) -> torch.Tensor:
        return next(self._columns)

    def brownian(self, *_, **__):
        """As diffusers' BrownianTreeNoiseSampler: increments over sigma, as unit noise."""
        known: list[tuple[float, torch.Tensor | float]] = []

        def increment(sigma, next_sigma) -> torch.Tensor:
            sigma, next_sigma = float(sigma), float(next_sigma)
            if not known:
                known.append((sigma, 0.0))
            at = min(known, key=lambda point: abs(point[0] - sigma))[1]
            lowest, value = known[-1]
            known.append((next_sigma, value + (lowest - next_sigma) ** 0.5 * self.draw()))
            return (known[-1][1] - at) / (sigma - next_sigma) ** 0.5

        return increment


@contextmanager
def _noise_from(scheduler, noise: _Noise):
    module = sys.modules[type(scheduler).__module__]
    replaced = {"randn_tensor": noise.draw, "BrownianTreeNoiseSampler": noise.brownian}
    kept = {name: getattr(module, name) for name in replaced if hasattr(module, name)}
    for name in kept:
        setattr(module, name, replaced[name])
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(module, name, value)


class _TorchInFloat64:
    """torch, for a module that asks for float32."""

    float32 = torch.float64

    @staticmethod
    def from_numpy(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array.astype(np.float64) if array.dtype == np.float32 else array)

    def __getattr__(self, name: str):
        return getattr(torch, name)


@contextmanager
def _in_float64(scheduler, levels, alphas_cumprod):
    """Let a scheduler compute in float64, with these noise levels in place of the nearest ones of its own."""
    if levels is None:
        yield
        return
    names = [name for name in ("sigmas", "alphas_cumprod", "final_alpha_cumprod") if hasattr(scheduler, name)]
    kept = {name: getattr(scheduler, name) for name in names}
    for name in names:
        setattr(scheduler, name, kept[name].double())
    if alphas_cumprod is not None:
        np.testing.assert_allclose(scheduler.alphas_cumprod, alphas_cumprod, rtol=0, atol=3e-7)
        scheduler.alphas_cumprod = torch.from_numpy(alphas_cumprod)
    module = sys.modules[type(scheduler).__module__]
    module.torch = _TorchInFloat64()
    torch.set_default_dtype(torch.float64)
    try:
        if hasattr(scheduler, "sigmas"):
            own = scheduler.sigmas.numpy()
            nearest = np.asarray(levels)[np.abs(np.subtract.outer(own, levels)).argmin(axis=1)]
            np.testing.assert_allclose(own, nearest, rtol=1e-6, atol=1e-12)
            scheduler.sigmas = torch.from_numpy(nearest)
        if hasattr(scheduler, "sigmas_interpol"):  # made of the others: let it make them again
            _use_levels(scheduler, levels)
        yield
    finally:
        module.torch = torch
        torch.set_default_dtype(torch.float32)
        for name in names:
            setattr(scheduler, name, kept[name])


def _use_levels(scheduler, levels) -> None:
    begin, steps = scheduler.begin_index, scheduler.num_inference_steps
    config = scheduler.config
    try:
        scheduler._internal_dict = type(config)(
            {**config, "use_karras_sigmas": False, "use_exponential_sigmas": True, "use_beta_sigmas": False}
        )
        scheduler._convert_to_exponential = lambda *_, **__: np.array(levels[:-1])
        scheduler.set_timesteps(steps)
    finally:
        scheduler._internal_dict = config
        del scheduler._convert_to_exponential
    scheduler.set_begin_index(begin)
