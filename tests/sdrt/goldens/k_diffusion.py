"""Makes k_diffusion.json: response tables of k-diffusion's samplers, for test_samplers_k_diffusion.py.

k-diffusion needs torchvision and more to be installed, so that its tables are kept here and not it. To make
them again, unpack its wheel anywhere (0.1.1.post1 was used) and run, where torch and scipy are installed:

    cd tests/sdrt/goldens
    python k_diffusion.py PATH/k_diffusion/sampling.py > k_diffusion.json

A network that predicts the picture is one-hot at each call, so is the noise, and the Brownian motion of the
SDE samplers is made of one-hot noise. Columns: x, the predictions, the noise drawn. Everything in float64.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import torch

STEPS = 6
SAMPLERS = {
    "euler": {},
    "euler_ancestral": {},
    "heun": {},
    "dpm_2": {},
    "dpm_2_ancestral": {},
    "lms": {},
    "dpmpp_2s_ancestral": {},
    "dpmpp_sde": {},
    "dpmpp_2m": {},
    "dpmpp_2m_sde": {"solver_type": "midpoint"},
}


class OneHot:
    """The network and the noise: each answer a new basis vector. Keeps what the network was asked."""

    def __init__(self) -> None:
        self._columns = torch.eye(1 + 4 * STEPS, dtype=torch.float64)[:, None]
        self.start = self._columns[0]
        self.asked: list[tuple[float, torch.Tensor]] = []
        self.drawn = 0
        self._path: list[tuple[float, Any]] = []

    def network(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.asked.append((float(sigma), x))
        return self._columns[len(self.asked)]

    def noise(self, *_: Any) -> torch.Tensor:
        self.drawn += 1
        return self._columns[2 * STEPS + self.drawn]

    def brownian(self, sigma: torch.Tensor, next_sigma: torch.Tensor) -> torch.Tensor:
        sigma, next_sigma = float(sigma), float(next_sigma)
        if not self._path:
            self._path.append((sigma, 0.0))
        at = min(self._path, key=lambda point: abs(point[0] - sigma))[1]
        lowest, value = self._path[-1]
        self._path.append((next_sigma, value + (lowest - next_sigma) ** 0.5 * self.noise()))
        return (self._path[-1][1] - at) / (sigma - next_sigma) ** 0.5

    def table(self, result: torch.Tensor) -> list[list[float]]:
        rows = torch.cat([*(x for _, x in self.asked), result])
        predictions = len(self.asked)
        columns = [*range(1 + predictions), *range(2 * STEPS + 1, 2 * STEPS + 1 + self.drawn)]
        return rows[:, columns].tolist()


def sampling(path: Path) -> types.ModuleType:
    """k-diffusion's sampling.py alone, without what it imports and this does not use."""
    for name in ("torchdiffeq", "torchsde", "k", "k.utils"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchdiffeq"].odeint = None
    sys.modules["k"].utils = sys.modules["k.utils"]
    sys.modules["k.utils"].append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]
    module = types.ModuleType("k.sampling")
    module.__package__ = "k"
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


def main(path: Path) -> None:
    k = sampling(path)
    torch.set_default_dtype(torch.float64)
    sigmas = k.get_sigmas_karras(STEPS, 0.03, 14.6)
    tables = {}
    for name, options in SAMPLERS.items():
        one_hot = OneHot()
        if "ancestral" in name:
            options = {**options, "noise_sampler": one_hot.noise}
        elif "sde" in name:
            options = {**options, "noise_sampler": one_hot.brownian}
        sample = getattr(k, f"sample_{name}")
        result = sample(one_hot.network, one_hot.start, sigmas, disable=True, **options)
        asked = [sigma for sigma, _ in one_hot.asked]
        tables[name] = {"asked": asked, "response": one_hot.table(result)}
    print(json.dumps({"sigmas": sigmas.tolist(), "tables": tables}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
