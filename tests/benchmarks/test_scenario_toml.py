"""A report's scenario can be run again."""

from __future__ import annotations

import pytest
from bench_report import HOSTILE
from bench_scenario import scenario

from sdrt_bench import scenario as scenarios
from sdrt_bench.scenario import PeerSettings, ScalingSettings
from sdrt_bench.scenario_toml import to_toml

ODD = scenario(
    title="é 🎨 \x7f \\ \n",
    reference="a name with spaces.and dots",
    peers={
        "a name with spaces.and dots": PeerSettings(runner="diffusers"),
        HOSTILE: PeerSettings(runner="sdrt", guidance_interval=(0.0, 0.5), least_psnr=50.0),
    },
    scaling=ScalingSettings(peers=(HOSTILE,), batch=(1, 2)),
)


@pytest.mark.parametrize("found", [ODD, *(scenarios.read(file) for file in scenarios.FOLDER.glob("*.toml"))])
def test_read_back(found, tmp_path):
    path = tmp_path / "scenario.toml"
    path.write_text(to_toml(found), encoding="utf-8")
    assert scenarios.read(path) == found
