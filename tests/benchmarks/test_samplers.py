"""The sampler benchmark and the sheet of samplers have a place for every sampler."""

from __future__ import annotations

import json

from click.testing import CliRunner
from PIL import Image

from sdrt.samplers import SAMPLERS
from sdrt_bench import sampler_sheet, samplers

DISTILLED = {"lcm", "tcd"}  # know 50 steps


def test_report_has_every_sampler(tmp_path):
    report = tmp_path / "report.json"
    result = CliRunner().invoke(samplers.main, ["--runs", "1", "--output", str(report)])
    assert result.exit_code == 0, result.output
    found = json.loads(report.read_text())
    measured = {name.partition(" ")[0] for name in found["milliseconds"]}
    assert measured == set(SAMPLERS)
    short = {name.partition(" ")[0] for name, taken in found["milliseconds"].items() if taken["steps"] < 100}
    assert short == DISTILLED
    for taken in found["first_in_process_milliseconds"].values():
        assert taken["import"] > 0 and taken["median"] > 0
    assert found["machine"]["processor"]
    slowest = max(taken["median"] for taken in found["milliseconds"].values())
    assert found["milliseconds"][found["slowest"]]["median"] == slowest


def test_sheet_has_every_sampler(tmp_path, monkeypatch):
    monkeypatch.setattr(sampler_sheet, "STEPS", (1, 2))
    drawn = []
    strip = sampler_sheet._strip
    monkeypatch.setattr(sampler_sheet, "_strip", lambda *args: drawn.append(args[1].name) or strip(*args))
    sheet = tmp_path / "sheet.png"
    result = CliRunner().invoke(sampler_sheet.main, [str(sheet)])
    assert result.exit_code == 0, result.output
    assert drawn == [name for name in SAMPLERS if name != "flow_euler"]  # the demo model predicts v
    assert Image.open(sheet).size[0] > 4 * 2 * 64
