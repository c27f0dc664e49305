"""Promises the repository makes about itself."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import sdrt

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_versions_agree():
    assert sdrt.__version__ == PROJECT["version"]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_is_constrained():
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    extras = PROJECT["optional-dependencies"]
    for requirement in (*PROJECT["dependencies"], *extras["cpu"], *extras["export"], *extras["dev"]):
        name = re.split(r"[\[>=<]", requirement)[0].lower()
        assert name == "sdrt" or name in pinned, f"{name} is not in constraints.txt"


def test_console_script():
    (script,) = metadata.entry_points(group="console_scripts", name="sdrt")
    assert script.value == PROJECT["scripts"]["sdrt"] and callable(script.load())


def test_readme_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ *make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"README names make {target}"


def test_readme_links_lead_somewhere():
    for page in ROOT.glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not link.startswith("http"):
                assert (ROOT / link).exists(), f"{page.name} links to {link}"
