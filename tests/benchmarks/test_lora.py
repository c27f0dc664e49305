"""The LoRA benchmark measures and reports; how fast it is, is for its report to say."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from sdrt.bundle import DEMO
from sdrt_bench import lora


def test_report_names_machine_and_command(tmp_path):
    pytest.importorskip("safetensors")
    report = tmp_path / "report.json"
    result = CliRunner().invoke(lora.main, [str(DEMO), "--runs", "1", "--rank", "4", "--output", str(report)])
    assert result.exit_code == 0, result.output
    found = json.loads(report.read_text())
    assert found["command"] == "python -m sdrt_bench.lora demo --rank 4 --runs 1"
    assert found["machine"]["processor"]
    assert found["modules"] > 50
    none, one, two = (found["medians"][f"{count} LoRAs"] for count in range(3))
    assert none["merging_s"] == 0.0 < one["merging_s"]
    assert two["load_s"] > two["merging_s"]
    assert none["peak_mb"] > 10
