"""The command line: help, JSON, doctor, and where an error comes from."""

from __future__ import annotations

import json
import sys
from importlib import metadata

import numpy as np
import pytest

import sdrt
from sdrt.cli import COMMANDS, cli
from sdrt.samplers import SAMPLERS, NoiseSchedule, compile_sampler

OPTIONS = {
    "export": ("--output", "--precision"),
    "generate": ("--steps", "--guidance", "--sampler", "--seed", "--count", "--output", "--no-limits"),
    "info": ("--json",),
    "verify": ("--fast", "--json"),
    "samplers": ("--steps", "--start", "--spacing", "--sigma-schedule", "--karras", "--eta", "--prediction"),
    "doctor": ("--json",),
    "bench": ("run",),
}


def test_help_lists_every_command(run_sdrt):
    result = run_sdrt("--help")
    assert (result.code, result.err) == (0, "")
    for name, (_, text) in COMMANDS.items():
        assert name in result.out
        assert text in result.out


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(sdrt_main, command, flag):
    result = sdrt_main(command, flag)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: sdrt {command} ")
    for option in (*OPTIONS[command], "--debug"):
        assert option in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_does(command):
    context = cli.make_context("sdrt", [], resilient_parsing=True)
    for parameter in cli.get_command(context, command).params:
        if parameter.param_type_name == "option":
            assert parameter.help, parameter.name


def test_version(sdrt_main):
    assert sdrt_main("--version").out.strip().endswith(sdrt.__version__)
    assert metadata.version("sdrt") == sdrt.__version__


def test_no_command_shows_help(sdrt_main):
    result = sdrt_main()
    assert result.code == 2
    assert "generate" in result.err


@pytest.mark.parametrize("args", [("generat",), ("generate",), ("samplers", "a", "b"), ("verify", "--no")])
def test_wrong_usage_is_one_line(refused, args):
    refused(*args, says=(" --help",))


class TestDebug:
    @pytest.mark.parametrize("where", ["before", "after"])
    def test_shows_where_an_error_comes_from(self, sdrt_main, where):
        args = ["generate", "a cat", "-o", "."]
        result = sdrt_main(*(["--debug", *args] if where == "before" else [*args, "--debug"]))
        assert result.code == 2
        assert result.err.startswith("Traceback (most recent call last):\n")
        assert "check_output" in result.err
        assert result.err.splitlines()[-1].startswith("Error: . is a directory")

    def test_after_a_double_dash_it_is_the_prompt(self, sdrt_main):
        result = sdrt_main("generate", "-o", "x.gif", "--", "--debug")
        assert "Traceback" not in result.err
        assert "x.gif is not a PNG" in result.err

    def test_a_bug_is_called_one(self, sdrt_main, monkeypatch):
        monkeypatch.setattr("sdrt.models.find_bundle", lambda name: 1 / 0)
        result = sdrt_main("verify")
        assert result.code == 1
        said = "Error: ZeroDivisionError: division by zero; this is a bug, --debug shows where\n"
        assert result.err == said
        assert "Traceback" in sdrt_main("verify", "--debug").err

    def test_out_of_memory(self, sdrt_main, monkeypatch):
        def find(name):
            raise MemoryError

        monkeypatch.setattr("sdrt.models.find_bundle", find)
        result = sdrt_main("verify")
        assert (result.code, result.err.count("\n")) == (1, 1)
        assert result.err.startswith("Error: out of memory")


def test_generate_json(sdrt_main, tmp_path):
    args = ("--steps", "2", "-n", "2", "--seed", "18446744073709551615", "-o", "x.png", "--json")
    answer = json.loads(sdrt_main("generate", "a cat 🐸", *args).out)
    assert [picture["path"] for picture in answer["pictures"]] == ["x.png", "x-1.png"]
    assert [picture["seed"] for picture in answer["pictures"]] == [2**64 - 1, 0]
    assert all((tmp_path / picture["path"]).is_file() for picture in answer["pictures"])
    assert answer["request"]["prompt"] == "a cat 🐸"
    assert answer["request"]["steps"] == 2
    assert set(answer["seconds"]) == {"load", "generate"}
    assert all(seconds > 0 for seconds in answer["seconds"].values())


class TestSamplers:
    def test_list(self, sdrt_main):
        entries = json.loads(sdrt_main("samplers", "--json").out)
        assert {entry["name"] for entry in entries} == set(SAMPLERS)
        shown = sdrt_main("samplers").out
        for sampler in SAMPLERS.values():
            for word in (sampler.name, sampler.title, *sampler.aliases):
                assert word in shown

    def test_numbers(self, sdrt_main):
        args = ("--steps", "4", "--spacing", "trailing", "--prediction", "v_prediction", "--json")
        answer = json.loads(sdrt_main("samplers", "DPM++ 2M Karras", *args).out)
        schedule = NoiseSchedule(timestep_spacing="trailing", prediction_type="v_prediction")
        table = compile_sampler("dpmpp_2m", schedule, 4, sigma_schedule="karras")
        assert (answer["sampler"], answer["sigma_schedule"], answer["steps"]) == ("dpmpp_2m", "karras", 4)
        assert (answer["spacing"], answer["prediction"]) == ("trailing", "v_prediction")
        np.testing.assert_array_equal(answer["timesteps"], table.timesteps)
        np.testing.assert_array_equal(answer["c_in"], table.c_in)
        np.testing.assert_array_equal(answer["response"], table.response())
        assert np.shape(answer["response"]) == (5, 5)

    def test_table(self, sdrt_main):
        lines = sdrt_main("samplers", "euler", "--steps", "3").out.splitlines()
        assert lines[0].startswith("Euler: 3 evaluations")
        bars = [line.rpartition(" ")[2] for line in lines[-3:]]
        assert len(bars[0]) > len(bars[1]) > len(bars[2])

    def test_table_shows_where_noise_is_drawn(self, sdrt_main):
        lines = sdrt_main("samplers", "Euler a", "--steps", "3").out.splitlines()
        assert ["~" in line for line in lines[3:6]] == [True, True, False]
        assert lines[-1] == "~ draws noise"

    @pytest.mark.parametrize("name", SAMPLERS)
    def test_every_sampler_has_numbers(self, sdrt_main, name):
        answer = json.loads(sdrt_main("samplers", name, "--steps", "6", "--start", "2", "--json").out)
        prediction = "flow" if name == "flow_euler" else "epsilon"
        table = compile_sampler(name, NoiseSchedule(prediction_type=prediction), 6, start=2)
        assert (answer["sampler"], answer["start"], answer["prediction"]) == (name, 2, prediction)
        for key in ("timesteps", "c_in", "alphas", "sigmas"):
            np.testing.assert_array_equal(answer[key], getattr(table, key))
        np.testing.assert_array_equal(answer["response"], table.response())

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (("euler", "--start", "20"), "start is 20; expected 0 to 19"),
            (("dpmpp_2m", "--karras", "--sigma-schedule", "beta"), "exclude each other; leave one out"),
            (("ddim", "--eta", "2"), "eta is 2.0; expected 0"),
            (("heun", "--prediction", "flow"), "Heun is not for models that predict flow; take dpmpp_2m or"),
            (("dpmpp_2m", "--prediction", "flow", "--karras"), "need flow_euler; take plain ones"),
            (("eular",), "unknown sampler 'eular'; did you mean euler"),
        ],
    )
    def test_wrong_input(self, sdrt_main, args, message):
        result = sdrt_main("samplers", *args)
        assert result.code == 2
        assert message in result.err

    def test_schedule_of_a_bundle(self, sdrt_main, bundle, edit_manifest):
        edit_manifest(lambda fields: fields["schedule"].update(beta_end=0.02, steps_offset=0))
        args = ("--steps", "2", "--spacing", "leading", "--json")
        answer = json.loads(sdrt_main("samplers", "ddim", "-m", str(bundle), *args).out)
        assert answer["timesteps"] == [500, 0]


class TestDoctor:
    def test_sound(self, sdrt_main):
        report = json.loads(sdrt_main("doctor", "--json").out)
        assert report["sdrt"] == sdrt.__version__
        assert report["can_generate"] is True
        assert report["packages"]["numpy"] == np.__version__
        assert "CPUExecutionProvider" in report["execution_providers"]
        assert report["backends"]["onnxruntime"] == "onnxruntime"
        assert report["models"] == ["demo"]
        assert "can generate: yes" in sdrt_main("doctor").out

    def test_nothing_that_runs_graphs(self, sdrt_main, monkeypatch):
        absent(monkeypatch, "onnxruntime", "openvino")
        for module in ("onnxruntime", "openvino"):
            monkeypatch.setitem(sys.modules, module, None)
        result = sdrt_main("doctor")
        assert result.code == 1
        assert "can generate: no" in result.out
        assert "pip install 'sdrt[cpu]'" in result.out

    def test_no_torch(self, sdrt_main, monkeypatch):
        absent(monkeypatch, "torch", "diffusers")
        result = sdrt_main("doctor")
        assert result.code == 0
        assert "can export: no" in result.out
        assert "to export checkpoints (torch, diffusers missing): pip install 'sdrt[export]'" in result.out

    def test_both_builds_of_onnxruntime(self, sdrt_main, monkeypatch):
        original = metadata.version
        present = {"onnxruntime": "1", "onnxruntime-gpu": "1"}
        monkeypatch.setattr(metadata, "version", lambda name: present.get(name) or original(name))
        (mend,) = (
            line for line in json.loads(sdrt_main("doctor", "--json").out)["mend"] if "overwrite" in line
        )
        assert "pip uninstall -y onnxruntime onnxruntime-gpu" in mend

    def test_exported_models(self, sdrt_main, bundle, tmp_path):
        (tmp_path / "engines").mkdir()
        bundle.rename(tmp_path / "engines" / "mine")
        assert json.loads(sdrt_main("doctor", "--json").out)["models"] == ["demo", "mine"]


def absent(monkeypatch, *packages):
    original = metadata.version

    def version(name):
        if name in packages:
            raise metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr(metadata, "version", version)


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3_000 + "x"])
def test_info_of_a_name_too_long(sdrt_main, name):
    result = sdrt_main("info", name)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("Error: there is no bundle at x") and line.endswith("File name too long")
