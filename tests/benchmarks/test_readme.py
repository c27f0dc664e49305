"""The README's table says what the committed reports say."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_report import report, speed
from click.testing import CliRunner

from sdrt_bench import report as reports
from sdrt_bench.readme import BEGIN, END, main
from sdrt_bench.report import PeerReport

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "README.md").write_text(f"# Before\n\n{BEGIN}\nstale figures\n{END}\n\nAfter.\n")
    (tmp_path / "results" / "a").mkdir(parents=True)

    def run(*options):
        places = ["--readme", tmp_path / "README.md", "--results", tmp_path / "results"]
        return CliRunner().invoke(main, [*map(str, places), *options])

    return run


def test_table_is_written_and_then_checked(run, tmp_path):
    reports.write(report(), tmp_path / "results" / "a" / "report.json")
    stale = run("--check")
    assert stale.exit_code == 1 and "make readme-table" in stale.output
    assert "stale" in (tmp_path / "README.md").read_text()
    assert run().exit_code == 0
    assert run("--check").exit_code == 0
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# Before\n") and text.endswith("After.\n") and "stale" not in text
    assert (
        "| ours | 200 (180\u2013220) | 2.00x" in text or "| ours | 0.200 (0.180\u20130.220) | 2.00x" in text
    )
    assert "Not installed: gone." in text and "Misses a gate: worse." in text
    assert "<script>" not in text


def test_a_newer_report_makes_it_stale(run, tmp_path):
    file = tmp_path / "results" / "a" / "report.json"
    reports.write(report(), file)
    run()
    reports.write(report(peers={"right": PeerReport(speed=speed(0.7))}), file)
    assert run("--check").exit_code == 1


def test_without_reports_it_says_so(run, tmp_path):
    assert run().exit_code == 0
    assert "No report" in (tmp_path / "README.md").read_text()


def test_comments_must_be_there(run, tmp_path):
    (tmp_path / "README.md").write_text(END + BEGIN)
    assert "needs one line" in run().output


def test_committed_table_is_up_to_date(monkeypatch):
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(main, ["--check"])
    assert result.exit_code == 0, result.output
