"""Scenarios: what comes with sdrt reads, and what is wrong in a file is named."""

from __future__ import annotations

import msgspec
import pytest
from bench_scenario import scenario

from sdrt.errors import InputError, UnknownNameError
from sdrt_bench import scenario as scenarios

SHIPPED = sorted(path.stem for path in scenarios.FOLDER.glob("*.toml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_scenarios_read(name):
    found = scenarios.read(scenarios.find(name))
    assert found.reference in found.peers
    # what sdrt leaves out is compared with sdrt leaving nothing out
    assert found.peers[found.reference].runner == ("sdrt" if name == "sd15-fewer" else "diffusers")


def test_unknown_name_says_which_there_are():
    with pytest.raises(UnknownNameError, match="demo"):
        scenarios.find("dmeo")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("steps = 20", "steps = 0", "steps"),
        ("steps = 20", "", "steps"),
        ("steps = 20", "steps = 20\nstep = 1", "unknown field `step`"),
        ('reference = "diffusers-fp32"', 'reference = "nobody"', "'nobody', which is not among its"),
        ('runner = "optimum"', 'runner = "invoke"', "invoke"),
        ('runner = "optimum"', 'runner = "optimum"\nbundle = "demo"', "settings of the runner sdrt"),
        ("title = ", "title ", "is not a scenario"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, says):
    text = (scenarios.FOLDER / "demo.toml").read_text()
    assert old in text
    (tmp_path / "mine.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=r"mine\.toml") as caught:
        scenarios.read(tmp_path / "mine.toml")
    assert says in str(caught.value)


def test_file_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        scenarios.read(tmp_path)
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="is not a scenario"):
        scenarios.read(tmp_path / "x.toml")


def test_only_some_peers_keeps_the_reference():
    asked = scenario(scaling=scenarios.ScalingSettings(peers=("right", "ours"), batch=(1,)))
    found = scenarios.adjusted(asked, rounds=None, warm=None, steps=7, only=["ours"])
    assert (found.steps, found.warm, list(found.peers)) == (7, 3, ["right", "ours"])
    found = scenarios.adjusted(asked, rounds=None, warm=None, steps=None, only=["right"])
    assert list(found.peers) == ["right"] and found.scaling.peers == ("right",)
    with pytest.raises(UnknownNameError, match="ours"):
        scenarios.adjusted(asked, rounds=None, warm=None, steps=None, only=["our"])


def test_a_report_holds_its_scenario():
    found = scenario()
    assert msgspec.json.decode(msgspec.json.encode(found), type=scenarios.Scenario) == found
