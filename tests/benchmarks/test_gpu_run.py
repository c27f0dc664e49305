"""The run on a GPU without one: what is started when, what is left when it is cut off, what it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from bench_report import figure
from bench_report import report as bench_report

from sdrt_bench.bench import Limits
from sdrt_bench.gpu import environment, page, plan
from sdrt_bench.gpu import report as gpu_reports
from sdrt_bench.gpu.plan import Step
from sdrt_bench.gpu.report import (
    Bench,
    Device,
    GpuReport,
    NetworkTime,
    Outcomes,
    Peaks,
    Record,
    Sameness,
    StepOutcome,
)
from sdrt_bench.gpu.runner import Log, Runner
from sdrt_bench.report import Report

PASSES = "pass"
SAME = Sameness(what="a picture", reference="the right one", psnr=(60.0, None), gate=50.0)
FAR = Sameness(what="a network", reference="PyTorch", relative_l2=0.1, gate=0.005)


def step(name, **settings) -> Step:
    return Step(
        **{"name": name, "title": f"Title of {name}", "run": lambda _: None, "limit": 20.0, **settings}
    )


def empty_report(steps, **changes) -> GpuReport:
    outcomes = [StepOutcome(name=one.name, title=one.title, limit=one.limit) for one in steps]
    settings = {"command": "run.sh", "date": "today", "rehearsal": False, "machine": {"cores": 2}}
    return GpuReport(**{**settings, "steps": outcomes, **changes})


def run(tmp_path, steps, codes, *, seconds=60.0, builds=1, rehearse=False) -> GpuReport:
    """A run whose steps are lines of Python; returns what was last saved."""
    report = empty_report(steps)
    saved = tmp_path / "report.json"
    Runner(
        steps,
        report,
        command=lambda one, records: [sys.executable, "-c", codes[one.name], str(records)],
        folder=tmp_path,
        log=Log(tmp_path / "log.txt"),
        seconds=seconds,
        builds=builds,
        rehearse=rehearse,
        save=lambda: gpu_reports.write(report, saved),
    ).run()
    return gpu_reports.read(saved)


def statuses(report) -> dict[str, str]:
    return {one.name: one.status for one in report.steps}


def writes(*records) -> str:
    lines = [msgspec.json.encode(one).decode() for one in records]
    return f"import sys; print(*{lines!r}, sep='\\n', file=open(sys.argv[1], 'a'))"


def test_records_of_a_step_that_fails_are_kept_and_its_last_line_says_why(tmp_path):
    steps = [step("first"), step("second")]
    codes = {"first": f"{writes(SAME)}\nraise SystemExit('no such kernel')", "second": writes(FAR)}
    report = run(tmp_path, steps, codes)
    assert statuses(report) == {"first": "failed", "second": "done"}
    assert report.steps[0].why == "exit code 1: no such kernel"
    assert report.records == [SAME, FAR]
    log = (tmp_path / "log.txt").read_text()
    assert "first: no such kernel" in log and "first: failed after" in log


def test_what_needs_a_failed_step_is_skipped_and_says_so(tmp_path):
    steps = [step("bundle"), step("bench", needs=("bundle",)), step("last", needs=("bench",)), step("other")]
    report = run(tmp_path, steps, {"bundle": "raise SystemExit(3)", "other": PASSES})
    assert statuses(report) == {"bundle": "failed", "bench": "skipped", "last": "skipped", "other": "done"}
    assert report.steps[1].why == "it needs bundle, which was failed"


def test_over_its_limit_a_step_is_killed_with_all_that_it_started(tmp_path):
    child = tmp_path / "child.pid"
    code = (
        "import pathlib, signal, subprocess, sys, time\n"
        f"{writes(SAME)}\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "one = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(child)!r}).write_text(str(one.pid))\n"
        "time.sleep(60)"
    )
    started = time.monotonic()
    report = run(tmp_path, [step("stuck", limit=2.0), step("next")], {"stuck": code, "next": PASSES})
    assert time.monotonic() - started < 20
    assert statuses(report) == {"stuck": "over its limit", "next": "done"}
    assert report.steps[0].why == "killed after 2 s" and report.records == [SAME]
    time.sleep(0.2)
    assert not _alive(int(child.read_text()))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_end_of_the_time_cuts_off_what_runs_and_starts_nothing_more(tmp_path):
    code = f"{writes(SAME)}\nimport time; time.sleep(60)"
    report = run(tmp_path, [step("long", least=1.0), step("late", least=1.0)], {"long": code}, seconds=7.0)
    assert statuses(report) == {"long": "cut off", "late": "skipped"}
    assert "worth starting with 1" in report.steps[1].why
    assert report.records == [SAME]


def test_a_line_that_is_half_written_is_no_record(tmp_path):
    half = f"{writes(SAME)}; open(sys.argv[1], 'a').write('{{\"type\": \"Same')"
    report = run(tmp_path, [step("half")], {"half": half})
    assert statuses(report) == {"half": "done"} and report.records == [SAME]


def test_measuring_steps_are_alone_and_go_before_what_comes_later(tmp_path):
    """Two steps that prepare run side by side; the one that comes after the measuring step waits for it."""
    steps = [
        step("a"), step("b"), step("measure", measures=True, needs=("a",)), step("c"),
    ]  # fmt: skip
    note = (
        "import sys, time; from pathlib import Path; p = Path(sys.argv[1]).with_suffix('.times')\n"
        "start = time.time(); time.sleep(0.8); p.write_text(f'{start} {time.time()}')"
    )
    run(tmp_path, steps, {one.name: note for one in steps}, builds=2)
    times = {one.name: [*map(float, (tmp_path / f"{one.name}.times").read_text().split())] for one in steps}
    assert times["a"][0] < times["b"][1] and times["b"][0] < times["a"][1], "both prepare"
    assert times["measure"][0] > max(times["a"][1], times["b"][1])
    assert times["c"][0] > times["measure"][1]


def test_what_cannot_be_rehearsed_is_skipped_in_a_rehearsal(tmp_path):
    steps = [step("gpu-only", rehearsed=False), step("other")]
    report = run(tmp_path, steps, {"other": PASSES}, rehearse=True)
    assert statuses(report) == {"gpu-only": "skipped", "other": "done"}


def program(*options: str) -> list[str]:
    return [sys.executable, "-m", "sdrt_bench.gpu", "--rehearse", "--only", "machine", *options]


@pytest.mark.parametrize(("signal_", "status"), [(signal.SIGKILL, "running"), (signal.SIGTERM, "cut off")])
def test_killed_in_the_middle_it_leaves_a_readable_report(tmp_path, signal_, status):
    out = tmp_path / "out"
    process = subprocess.Popen(
        program("--out", str(out), "--work", str(tmp_path / "work")),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        if "machine: starts" in line:
            break
    ends = time.monotonic() + 30
    while statuses(gpu_reports.read(out / "report.json"))["machine"] == "waiting" and time.monotonic() < ends:
        time.sleep(0.05)
    process.send_signal(signal_)
    process.wait(timeout=30)
    found = gpu_reports.read(out / "report.json")
    assert statuses(found) == {"machine": status}
    text = (out / "report.md").read_text()
    assert text.startswith("# A rehearsal") and status in text
    assert "machine: starts" in (out / "log.txt").read_text()


def test_only_takes_what_a_step_needs_with_it_and_names_the_steps_there_are():
    done = subprocess.run(
        [sys.executable, "-m", "sdrt_bench.gpu", "--list", "--only", "turbo"], capture_output=True, text=True
    )
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["machine", "sdxl-bundle", "sdxl-checkpoint", "turbo-engines", "turbo"]
    refused = subprocess.run(
        [sys.executable, "-m", "sdrt_bench.gpu", "--only", "turbos"], capture_output=True, text=True
    )
    assert refused.returncode == 2 and "turbo-engines" in refused.stderr


def test_every_step_needs_steps_that_come_before_it():
    names = []
    for one in plan.steps():
        assert set(one.needs) <= set(names), one.name
        names.append(one.name)
    assert len(set(names)) == len(names)


# the report


def records() -> list[Record]:
    network = {"model": "random:sd15", "graph": "unet", "width": 512, "height": 512, "cuda_graph": True}
    return [
        Device(facts={"name": "NVIDIA H100 80GB HBM3", "driver_version": "580.1"}),
        Peaks(limits=Limits(peak_teraflops={"torch cuda fp16": 790.0}, bandwidth=3e12)),
        SAME,
        *(
            NetworkTime(**network, pictures=count, rows=2 * count, seconds=figure(0.008 * count**0.8))
            for count in (1, 2, 4, 8)
        ),
        Bench(name="sd15", report=msgspec.structs.replace(bench_report(), command="older")),
        Bench(name="sd15", report=bench_report()),
        Outcomes(command="python -m pytest", passed=7, failed=("tests/a.py::test_b",), skipped=()),
    ]


def test_the_page_says_what_was_found(tmp_path):
    report = empty_report(plan.steps(), records=records())
    page.write(report, tmp_path)
    assert gpu_reports.read(tmp_path / "report.json") == report
    text = (tmp_path / "report.md").read_text()
    for said in ("NVIDIA H100 80GB HBM3", "790 TFLOP/s", "3,000 GB/s", "60.0 dB, at least 50 dB", "7 passed"):
        assert said in text, said
    assert "| unet | a CUDA graph | 512x512 | 8 | 16 |" in text
    for plot in ("rows", "sd15-latency"):
        assert (tmp_path / "plots" / f"{plot}.svg").read_text().startswith("<svg")
        assert f"plots/{plot}.svg" in text
    files = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert len(files) + len(("log.txt",)) <= 8, "what can be brought back"
    assert [one.command for one in gpu_reports.benches_of(tmp_path / "report.json")] == [
        bench_report().command
    ]


def test_troubles_are_all_that_went_wrong_and_nothing_else():
    steps = [step("a"), step("b"), step("c")]
    report = empty_report(steps, records=[SAME, FAR, *records()[-1:]])
    for outcome, status in zip(report.steps, ("failed", "skipped", "cut off"), strict=True):
        outcome.status = status
    first, second, third = page.troubles(report)
    assert first.startswith("Title of a: failed")
    assert second == "a network is not near enough to PyTorch: relative L2 0.100, at most 0.00500"
    assert third == "1 tests failed, tests/a.py::test_b among them"
    assert page.troubles(empty_report(steps, records=[SAME])) == []


@pytest.mark.parametrize(
    ("one", "passed"),
    [
        (SAME, True),
        (FAR, False),
        (msgspec.structs.replace(SAME, psnr=(60.0, 49.9)), False),
        (msgspec.structs.replace(SAME, psnr=(float("nan"),)), False),
        (msgspec.structs.replace(SAME, psnr=()), False),
        (msgspec.structs.replace(FAR, relative_l2=float("nan")), False),
    ],
)
def test_a_gate_is_passed_by_what_is_near_enough_alone(one, passed):
    assert one.passed is passed


def test_a_rehearsal_has_no_figures_for_the_readme(tmp_path):
    page.write(empty_report(plan.steps(), records=records(), rehearsal=True), tmp_path)
    assert list(gpu_reports.benches_of(tmp_path / "report.json")) == []
    assert (tmp_path / "report.md").read_text().startswith("# A rehearsal")


def test_a_report_of_sdrt_bench_is_read_as_itself(tmp_path):
    (tmp_path / "report.json").write_bytes(msgspec.json.encode(bench_report()))
    (found,) = gpu_reports.benches_of(tmp_path / "report.json")
    assert isinstance(found, Report) and found == bench_report()


# the environment


def brought(folder: Path, **files: bytes) -> Path:
    """A folder as `make gpu-wheels` leaves it."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sums = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    (folder / environment.SUMS).write_text("".join(sums))
    return folder


def refused(call, *arguments) -> str:
    with pytest.raises(environment.MissingError) as error:
        call(*arguments)
    return str(error.value)


def test_missing_and_damaged_wheels_are_named_all_at_once(tmp_path):
    folder = brought(tmp_path / "wheels", **{"a.whl": b"a", "b.whl": b"b", "c.whl": b"c"})
    assert [one.name for one in environment.check_wheels(folder)] == ["a.whl", "b.whl", "c.whl"]
    (folder / "a.whl").unlink()
    (folder / "b.whl").write_bytes(b"other")
    first, second = refused(environment.check_wheels, folder).splitlines()
    assert "a.whl is missing" in first and "b.whl is damaged" in second
    assert "make gpu-wheels" in refused(environment.check_wheels, tmp_path)


def test_parts_are_joined_when_all_are_there(tmp_path, capsys):
    parts = {f"x.whl.part{number:02}of03": bytes([number]) * 3 for number in (1, 2, 3)}
    folder = brought(tmp_path / "parts", **parts)
    (wheel,) = environment.join_parts(folder, tmp_path)
    assert wheel.name == "x.whl" and wheel.read_bytes() == b"\1\1\1\2\2\2\3\3\3"
    (folder / "x.whl.part02of03").unlink()
    assert environment.join_parts(folder, tmp_path) == []
    assert "2 of 3 parts are here" in capsys.readouterr().out
    assert environment.join_parts(tmp_path / "none", tmp_path) == []


def test_packages_that_are_missing_or_too_old_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "NEEDED", {"numpy": "99.1", "no-such-package": "1", "click": "8.2"})
    first, second = refused(environment.check_packages, tmp_path).splitlines()
    assert "at least 99.1 is needed" in first and "no-such-package is not installed" in second


def test_run_sh_without_its_wheels_says_what_to_do(tmp_path):
    settings = {"SDRT_GPU_WHEELS": str(tmp_path / "none"), "SDRT_GPU_WORK": str(tmp_path / "work")}
    done = subprocess.run(
        [environment.ROOT / "benchmarks/gpu/run.sh", "--rehearse"],
        env={**os.environ, **settings, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        f"Error: there are no wheels in {tmp_path}/none; where there is a network run: make gpu-wheels, and "
        "bring them"
    ]


@pytest.mark.slow
def test_rehearsal_of_what_matters_most(tmp_path):
    """Engines, pictures and networks, in this environment; all steps take longer than a test should."""
    out = tmp_path / "out"
    only = ("--only", "demo", "--only", "rows")
    command = [sys.executable, "-m", "sdrt_bench.gpu", "--rehearse", *only, "--minutes", "9"]
    done = subprocess.run(
        [*command, "--out", str(out), "--work", str(tmp_path / "work")],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    found = gpu_reports.read(out / "report.json")
    assert set(statuses(found).values()) == {"done"}
    compared = [one for one in found.records if isinstance(one, Sameness)]
    assert len(compared) == 8 + 3 and all(one.passed for one in compared)
    assert {one.graph for one in found.records if isinstance(one, NetworkTime)} == {
        "unet", "vae_decoder", "text_encoder",
    }  # fmt: skip
    assert json.loads((out / "report.json").read_text())["kind"] == "gpu"
