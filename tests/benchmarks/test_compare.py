"""`sdrt bench compare`: what changed, and when not to believe it."""

from __future__ import annotations

import json

import msgspec
import pytest
from bench_report import figure, quality, report, speed
from click.testing import CliRunner

from sdrt.errors import InputError
from sdrt_bench import report as reports
from sdrt_bench.cli import bench
from sdrt_bench.compare import compare
from sdrt_bench.report import PeerReport


def with_ours(**changes):
    found = report()
    peer = msgspec.structs.replace(found.peers["ours"], **changes)
    return msgspec.structs.replace(found, peers={**found.peers, "ours": peer})


def verdicts(before, after, peer="ours"):
    return {change.what: change.verdict for change in compare(before, after).changes if change.peer == peer}


@pytest.mark.parametrize(
    ("picture", "verdict"),
    [
        (figure(0.1), "faster"),
        (figure(0.3), "slower"),
        (figure(0.19), "spreads overlap"),
        (figure(0.1, count=1), "no spread"),
    ],
)
def test_times(picture, verdict):
    assert verdicts(report(), with_ours(speed=speed(0.2, picture=picture)))["picture"] == verdict


def test_one_hiccup_is_no_spread():
    """The most of many values is left out: it says more of the machine than of the program."""
    hiccup = msgspec.structs.replace(figure(0.1), most=5.0)
    assert verdicts(report(), with_ours(speed=speed(0.2, picture=hiccup)))["picture"] == "faster"


def test_memory_and_sameness():
    after = with_ours(speed=speed(peak_mb=400.0), quality=quality(45.0, 0.9995))
    found = verdicts(report(), after)
    assert found["peak memory"] == "more"
    assert found["worst PSNR"] == "farther" and found["worst SSIM"] == "nearer"
    equal = verdicts(report(), with_ours(quality=quality(None)))
    assert equal["worst PSNR"] == "nearer" and equal["worst SSIM"] == "same"


def test_nothing_changed():
    found = compare(report(), report())
    assert not found.cautions and not found.unshared and not found.machine and not found.scenario
    assert {change.verdict for change in found.changes} == {"spreads overlap", "same"}


def test_gates():
    newly = with_ours(missed=("SSIM 0.9000, below 0.99",))
    assert compare(report(), newly).gates["newly missed"] == ("ours: SSIM 0.9000, below 0.99",)
    assert compare(newly, report()).gates["no longer missed"] == ("ours: SSIM 0.9000, below 0.99",)
    worse = msgspec.structs.replace(report().peers["worse"], missed=("PSNR 21.5 dB, below 50",))
    after = msgspec.structs.replace(report(), peers={**report().peers, "worse": worse})
    assert compare(report(), after).gates == {
        "newly missed": (),
        "still missed": ("worse: PSNR 21.5 dB, below 50",),
        "no longer missed": (),
    }


def test_gates_are_told_apart_by_what_they_demand():
    """Their figures differ from run to run, and may come first."""
    before = with_ours(missed=("83% of its pictures are right, below 90%", "unet differs by 2e-05"))
    after = with_ours(missed=("81% of its pictures are right, below 90%", "vae differs by 2e-05"))
    gates = compare(before, after).gates
    assert gates["newly missed"] == ("ours: vae differs by 2e-05",)
    assert "ours: 81% of its pictures are right, below 90%" in gates["still missed"]
    assert gates["no longer missed"] == ("ours: unet differs by 2e-05",)


def test_gate_of_a_peer_that_is_gone_is_not_mended():
    after = msgspec.structs.replace(report(), peers={**report().peers, "worse": PeerReport(absent="gone")})
    found = compare(report(), after)
    assert found.gates["no longer missed"] == ()
    assert found.unshared == {"worse": "measured, then absent (gone)"}


def test_other_machines_and_scenarios_are_cautioned_against():
    before = report()
    packages = {**before.machine, "packages": {"numpy": "2.5", "torch": None}}
    assert compare(before, report(machine=packages)).machine == {"packages.numpy": ("2.4", "2.5")}
    assert compare(before, report(machine=packages)).cautions == ()
    (machine,) = compare(before, report(machine={**before.machine, "cores": 64})).cautions
    assert "cores" in machine
    scenario = msgspec.structs.replace(before.scenario, steps=20)
    (steps,) = compare(before, report(scenario=scenario)).cautions
    assert "steps" in steps


def test_busy_machine_is_cautioned_against():
    (caution,) = compare(report(), report(load_average=(4.0, 0.1))).cautions
    assert caution.startswith("after: the load average before the first round was 4.0 on 2 cores")
    assert compare(report(), report(load_average=(0.1, 2.0))).cautions == ()  # the peers themselves


def test_peers_set_up_otherwise_are_cautioned_against():
    before = report()
    ours = msgspec.structs.replace(before.scenario.peers["ours"], guidance_interval=(0.0, 0.5))
    peers = {**before.scenario.peers, "ours": ours}
    after = report(scenario=msgspec.structs.replace(before.scenario, peers=peers))
    (caution,) = compare(before, after).cautions
    assert "(ours)" in caution


def test_command(tmp_path):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    reports.write(report(), files[0])
    faster = with_ours(speed=speed(0.05))
    reports.write(msgspec.structs.replace(faster, machine={"processor": "another"}), files[1])
    shown = CliRunner().invoke(bench, ["compare", *map(str, files)])
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert lines[0].startswith("caution: the machines differ")
    assert any(line.split()[:2] == ["picture,", "ms"] and line.endswith("faster") for line in lines)
    told = json.loads(CliRunner().invoke(bench, ["compare", *map(str, files), "--json"]).output)
    assert told["cautions"] and {change["peer"] for change in told["changes"]} == {
        "right", "ours", "worse", "silent", "whole process",
    }  # fmt: skip


def test_versions_that_peers_ran():
    after = with_ours(versions={"onnxruntime": "1.32"})
    assert compare(report(), after).versions == {"ours.onnxruntime": (None, "1.32")}


def test_what_is_no_report_is_refused(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("{}")
    with pytest.raises(InputError, match="is not a report"):
        reports.read(path)
