"""What a killed, failed or full-disk export leaves, and what the next one makes of it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from changed_weights import ChangedWeights
from torch import nn

from sdrt import manifest
from sdrt.errors import ExportError, SdrtError
from sdrt_export import filesystem, filling, graphs
from sdrt_export.exporter import export
from sdrt_export.fidelity import measure, run_references
from sdrt_export.parameters import Weights
from sdrt_export.sources import open_source
from sdrt_export.specs import GraphSpec, graph_specs


class Exported(Protocol):
    bundle: Path

    def stage(self, target: Path) -> Path: ...


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def old_bundle(exported: Exported, target: Path) -> dict[str, bytes]:
    shutil.copytree(exported.bundle, target)
    return contents(target)


class NoGraphError(Exception):
    """A graph was about to be exported."""


@pytest.fixture
def no_graphs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fail at each graph that would be exported; gives their names."""
    asked: list[str] = []

    def write_graph(spec: GraphSpec, *_: Any, **__: Any) -> Any:
        asked.append(spec.name)
        raise NoGraphError

    monkeypatch.setattr(graphs, "write_graph", write_graph)
    return asked


def test_finished_graphs_are_taken_over(
    exported: Exported, tiny: Path, tmp_path: Path, no_graphs: list[str]
) -> None:
    exported.stage(tmp_path / "tiny")
    stages: list[str] = []
    bundle = export(str(tiny), tmp_path / "tiny", progress=stages.append)
    assert contents(bundle) == contents(exported.bundle)
    assert sum("taken over" in stage for stage in stages) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        ("unet/model.onnx.data", "unet"),
        ("text_encoder/model.onnx", "text_encoder"),
        ("vae_encoder/model.onnx", "vae_encoder"),
    ],
)
def test_a_damaged_leftover_is_exported_again(
    exported: Exported, tiny: Path, tmp_path: Path, no_graphs: list[str], damage: str, again: str
) -> None:
    path = exported.stage(tmp_path / "tiny") / "bundle" / damage
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(NoGraphError):
        export(str(tiny), tmp_path / "tiny")
    assert no_graphs == [again]


def test_leftovers_of_other_settings_are_not_used(
    exported: Exported, tiny: Path, tmp_path: Path, no_graphs: list[str]
) -> None:
    exported.stage(tmp_path / "tiny")
    with pytest.raises(NoGraphError):
        export(str(tiny), tmp_path / "tiny", verify=False)
    assert no_graphs == ["text_encoder"]


def test_leftovers_of_another_checkpoint_are_not_used(
    exported: Exported, tiny: Path, tmp_path: Path, no_graphs: list[str]
) -> None:
    other = shutil.copytree(tiny, tmp_path / "other")
    weights = other / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    exported.stage(tmp_path / "tiny")
    with pytest.raises(NoGraphError):
        export(str(other), tmp_path / "tiny")


def test_strange_leftovers_do_not_get_into_the_bundle(
    exported: Exported, tiny: Path, tmp_path: Path, no_graphs: list[str]
) -> None:
    root = exported.stage(tmp_path / "tiny")
    (root / "bundle" / "unet" / "old.bin").write_bytes(b"x")
    (root / "bundle" / "more").mkdir()
    (root / "bundle" / "more" / "link").symlink_to("/etc/passwd")
    bundle = export(str(tiny), tmp_path / "tiny")
    assert contents(bundle) == contents(exported.bundle)


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b'{"unet": 1}', b'{"engine": {}}'])
def test_an_unreadable_record_means_starting_anew(
    exported: Exported, tiny: Path, tmp_path: Path, no_graphs: list[str], record: bytes
) -> None:
    (exported.stage(tmp_path / "tiny") / "finished.json").write_bytes(record)
    with pytest.raises(NoGraphError):
        export(str(tiny), tmp_path / "tiny")
    assert no_graphs == ["text_encoder"]


def test_force_replaces_the_old_bundle(exported: Exported, tiny: Path, tmp_path: Path) -> None:
    old_bundle(exported, tmp_path / "tiny")
    (tmp_path / "tiny" / "stale").write_text("of the old bundle")
    exported.stage(tmp_path / "tiny")
    export(str(tiny), tmp_path / "tiny", force=True)
    assert contents(tmp_path / "tiny") == contents(exported.bundle)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_too_little_space_is_told_beforehand(
    exported: Exported, tiny: Path, tmp_path: Path, no_graphs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = old_bundle(exported, tmp_path / "tiny")
    monkeypatch.setattr(filesystem, "free_bytes", lambda path: 1_000_000)
    with pytest.raises(ExportError, match=r"0\.0 GB free, the bundle needs about 0\.0 GB; make room"):
        export(str(tiny), tmp_path / "tiny", force=True)
    assert no_graphs == []
    assert contents(tmp_path / "tiny") == before


@pytest.mark.parametrize("where", ["save", "manifest", "sync"])
def test_a_full_disk_keeps_the_old_bundle(
    exported: Exported, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    before = old_bundle(exported, tmp_path / "tiny")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "save":
        monkeypatch.setattr(graphs.ir, "save", full)
        monkeypatch.setattr(
            filling, "graph_specs", lambda *args, **options: graph_specs(*args, **options)[:1]
        )
    else:
        exported.stage(tmp_path / "tiny")
        monkeypatch.setattr(
            *{"manifest": (manifest, "write"), "sync": (filesystem, "sync_tree")}[where], full
        )
    with pytest.raises(ExportError, match="became full; make room"):
        export(str(tiny), tmp_path / "tiny", force=True)
    assert contents(tmp_path / "tiny") == before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_an_unmatched_graph_fails_and_keeps_nothing(
    exported: Exported, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hand over the finished U-Net of the tiny checkpoint for one whose weights differ a little."""
    other = shutil.copytree(tiny, tmp_path / "other")
    _shift(other / "text_encoder" / "model.safetensors")

    def write_graph(spec: GraphSpec, model: nn.Module, weights: Weights, folder: Path, **_: Any) -> Any:
        shutil.copytree(exported.bundle / spec.name, folder, dirs_exist_ok=True)
        entry = manifest.read(exported.bundle / "sdrt.json").graphs[spec.name]
        return entry.inputs, entry.outputs

    monkeypatch.setattr(graphs, "write_graph", write_graph)
    (tmp_path / "out").mkdir()
    with pytest.raises(
        ExportError, match=r"text_encoder does not match PyTorch: relative L2 of last_hidden_state"
    ):
        export(str(other), tmp_path / "out" / "b")
    assert list((tmp_path / "out").iterdir()) == []
    made = manifest.read(export(str(other), tmp_path / "out" / "b", verify=False) / "sdrt.json")
    assert all(graph.tolerance is None and graph.fidelity == () for graph in made.graphs.values())


def _shift(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    weights["final_layer_norm.bias"] = weights["final_layer_norm.bias"] + 0.01
    save_file(weights, path, {"format": "pt"})


def test_nan_in_the_checkpoint_is_named(tiny: Path) -> None:
    checkpoint = open_source(str(tiny))
    spec = next(spec for spec in graph_specs(checkpoint.configs) if spec.name == "vae_decoder")
    weights = ChangedWeights(checkpoint.weights("vae"), "decoder.conv_in.weight", float("nan"))
    with pytest.raises(ExportError, match="the checkpoint's vae itself gives NaN or infinity as sample"):
        run_references(spec, checkpoint.build("vae"), weights)


def test_infinity_out_of_a_graph_is_named(exported: Exported, tiny: Path) -> None:
    checkpoint = open_source(str(tiny))
    spec = next(spec for spec in graph_specs(checkpoint.configs) if spec.name == "vae_decoder")
    trials = run_references(spec, checkpoint.build("vae"), checkpoint.weights("vae"))
    trials[1].inputs["latent_sample"][...] = torch.inf
    with pytest.raises(ExportError, match=r"vae_decoder gives NaN or infinity as sample .* in fp32"):
        measure(spec, exported.bundle / "vae_decoder" / "model.onnx", trials, "fp32")


def test_errors_are_one_line(tiny: Path, tmp_path: Path, no_graphs: list[str]) -> None:
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SdrtError) as raised:
            export(str(tiny), target)
        assert "\n" not in str(raised.value) and "-o" in str(raised.value)
