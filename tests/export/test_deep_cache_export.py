"""A U-Net that cannot be cut, and the command that asks for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from sdrt.cli import cli
from sdrt.errors import ExportError
from sdrt_export import export, graphs


def test_blocks_without_layers_to_cut_between(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before anything is exported."""
    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    config = json.loads((copy / "unet" / "config.json").read_text())
    config["up_block_types"][-1] = "ResnetUpsampleBlock2D"
    (copy / "unet" / "config.json").write_text(json.dumps(config))
    monkeypatch.delattr(graphs, "write_graph")
    with pytest.raises(ExportError, match=r"'ResnetUpsampleBlock2D' in the config of the U-Net"):
        export(str(copy), tmp_path / "bundle", deep_cache=True)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_the_option_reaches_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def run(source: str, target: Path | None, **options: object) -> Path:
        asked.update(options)
        return target or tmp_path

    monkeypatch.setattr("sdrt_export.exporter.export", run)
    for arguments in (["--deep-cache"], []):
        CliRunner().invoke(cli, ["export", "demo", *arguments], catch_exceptions=False)
        assert asked["deep_cache"] == bool(arguments)
