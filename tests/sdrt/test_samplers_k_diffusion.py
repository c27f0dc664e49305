"""The samplers of k-diffusion against tables made with it (goldens/k_diffusion.py says how)."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path as File

import numpy as np
import pytest

from sdrt.samplers import NoiseSchedule, find_sampler
from sdrt.samplers.table import Path, Point, compile_path

GOLDENS = json.loads((File(__file__).parent / "goldens" / "k_diffusion.json").read_text())


@pytest.mark.parametrize("name", GOLDENS["tables"])
def test_response_equals_k_diffusion(name):
    golden = GOLDENS["tables"][name]

    def point(sigma: float) -> Point:
        return Point(timestep=0.0, alpha=1.0, sigma=float(sigma))

    legs = tuple(pairwise(point(sigma) for sigma in GOLDENS["sigmas"]))
    sampler, _ = find_sampler(f"sample_{name}")
    step_function = sampler.step_function(NoiseSchedule(), None)
    table = compile_path(Path(legs=legs, point=point, initial_scale=1.0), step_function, "sample")
    # k-diffusion's LMS integrates with a tolerance of 1e-4, which for a cubic is exact to rounding
    np.testing.assert_allclose(table.sigmas, golden["asked"], rtol=1e-12)
    theirs = np.array(golden["response"])
    assert table.response().shape == theirs.shape
    np.testing.assert_allclose(table.response(), theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())
