"""The benchmark of watching measures and reports; how fast it is, is for its report to say."""

from __future__ import annotations

import json

from click.testing import CliRunner

from sdrt_bench import watching


def test_report_has_every_way_of_watching(tmp_path):
    report = tmp_path / "report.json"
    result = CliRunner().invoke(watching.main, ["--runs", "1", "--size", "64", "--output", str(report)])
    assert result.exit_code == 0, result.output
    found = json.loads(report.read_text())
    assert found["command"] == "python -m sdrt_bench.watching --runs 1 --size 64"
    assert set(found["64x64"]) == set(watching.WATCHED)
    assert all(figures["ms"] > 0 for figures in found["64x64"].values())
    assert found["64x64"]["unwatched"]["ratio"] == 1
