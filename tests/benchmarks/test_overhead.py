"""The overhead benchmark measures and reports; how fast it is, is for its report to say."""

from __future__ import annotations

import json

from click.testing import CliRunner

from sdrt_bench import overhead


def test_report_names_machine_and_command(tmp_path):
    report = tmp_path / "report.json"
    result = CliRunner().invoke(overhead.main, ["--runs", "1", "--output", str(report)])
    assert result.exit_code == 0, result.output
    found = json.loads(report.read_text())
    assert found["command"] == "python -m sdrt_bench.overhead --runs 1"
    assert found["machine"]["processor"] and found["machine"]["packages"]["onnxruntime"]
    assert found["step"]["network_ms"] > 0 and found["step"]["overhead_ms"] > 0
    assert found["process_seconds"]["generate"] > found["process_seconds"]["networks"]
