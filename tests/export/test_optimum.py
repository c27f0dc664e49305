"""Folders that optimum exported, as sources: bundles that give the picture of the checkpoint's own bundle."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import optimum_layout
import pytest
import tiny_models
from onnx import TensorProto, helper
from PIL import Image

from sdrt import manifest
from sdrt.errors import ExportError, InputError, SdrtError
from sdrt.pipeline import Pipeline
from sdrt_export import export

LAYOUTS = ("recent", "old")


@pytest.fixture(scope="session")
def folder_of(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder in a layout of optimum's."""
    return cache(
        lambda layout: optimum_layout.write(
            tiny_bundle, tmp_path_factory.mktemp("optimum") / f"tiny-{layout}", layout
        )
    )


@pytest.fixture(scope="session")
def bundle_of(folder_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The bundle made of that folder."""
    return cache(
        lambda layout: export(str(folder_of(layout)), tmp_path_factory.mktemp("bundles") / f"tiny-{layout}")
    )


@pytest.fixture
def copy(folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    return shutil.copytree(folder_of("recent"), tmp_path / "copy")


def pictures(bundle: Path, **settings: Any) -> list[Any]:
    with Pipeline.load(bundle) as pipeline:
        made = pipeline.generate("a red circle", width=64, height=64, seed=3, guidance_scale=4.0, **settings)
        return [picture.pixels for picture in made]


def psnr(a: Any, b: Any) -> float:
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_picture_as_the_checkpoint(layout: str, bundle_of: Any, tiny_bundle: Path) -> None:
    """DDIM's timesteps are whole numbers, which an int64 timestep takes as they are."""
    settings = {"steps": 4, "sampler": "ddim", "count": 2}
    theirs, ours = pictures(bundle_of(layout), **settings), pictures(tiny_bundle, **settings)
    assert ours[0].std() > 5
    assert all(psnr(a, b) >= 50.0 for a, b in zip(theirs, ours, strict=True))


@pytest.mark.slow
def test_inpainting_takes_its_channels_apart(tmp_path: Path) -> None:
    """optimum's graph takes latents, mask and masked picture as nine channels."""
    checkpoint = tiny_models.write("sd1-inpainting", tmp_path / "checkpoint")
    bundle = export(str(checkpoint), tmp_path / "bundle", verify=False)
    folder = optimum_layout.write(bundle, tmp_path / "optimum", "recent")
    made = export(str(folder), tmp_path / "made")
    assert manifest.read(made / "sdrt.json").conditioning.picture == "inpainting"
    rows, columns = np.mgrid[:64, :64]
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    Image.fromarray(np.stack([3 * rows, 4 * columns, rows + columns], -1).astype(np.uint8)).save(image)
    Image.fromarray((rows > columns).astype(np.uint8) * 255).save(mask)
    ours, theirs = (pictures(path, steps=4, init_image=image, mask=mask)[0] for path in (bundle, made))
    assert psnr(theirs, ours) >= 50.0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_have_timesteps_of_their_own(layout: str, bundle_of: Any) -> None:
    """Pictures of one batch may be at different timesteps, which optimum's graphs have one for."""
    session = onnxruntime.InferenceSession(bundle_of(layout) / "unet" / "model.onnx")
    shapes = {"sample": (2, 4, 8, 8), "encoder_hidden_states": (2, 77, 32)}
    generator = np.random.default_rng(0)
    rows = {name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    rows["timestep"] = np.array([3.0, 900.0], np.float32)
    (both,) = session.run(None, rows)
    for row in (0, 1):
        (alone,) = session.run(None, {name: value[row : row + 1] for name, value in rows.items()})
        np.testing.assert_allclose(alone[0], both[row], rtol=1e-4, atol=1e-5)
    (swapped,) = session.run(None, {**rows, "timestep": rows["timestep"][::-1].copy()})
    assert np.abs(swapped - both).max() > 1e-3
    (shared,) = session.run(None, {**rows, "timestep": rows["timestep"][:1]})
    np.testing.assert_allclose(shared[0], both[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_manifest_says_that_nothing_was_compared(layout: str, bundle_of: Any, tiny_bundle: Path) -> None:
    made, own = (manifest.read(bundle / "sdrt.json") for bundle in (bundle_of(layout), tiny_bundle))
    assert all(graph.tolerance is None and graph.fidelity == () for graph in made.graphs.values())
    assert {name: graph.inputs for name, graph in made.graphs.items()} == {
        name: graph.inputs for name, graph in own.graphs.items()
    }
    assert (made.family, made.schedule, made.vae.scaling_factor) == (
        own.family,
        own.schedule,
        own.vae.scaling_factor,
    )
    # fitted to what other graphs of the same VAE give, which differs by 1e-6 of itself
    np.testing.assert_allclose(made.vae.latent_rgb.factors, own.vae.latent_rgb.factors, rtol=0, atol=1e-4)
    assert made.text[0].clip_skip_outputs == ("last_hidden_state",)
    assert made.made_by.opset == 23


def test_program_says_that_nothing_is_compared(copy: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "sdrt"]
    options: dict[str, Any] = {"capture_output": True, "text": True, "cwd": tmp_path, "timeout": 300}
    result = subprocess.run([*program, "export", "copy"], **options)
    assert result.returncode == 0, result.stderr
    assert "unet: copying; not compared, for there is no PyTorch module" in result.stderr
    assert subprocess.run([*program, "verify", "copy"], **options).returncode == 0
    again = subprocess.run([*program, "export", "engines/copy", "-o", "again"], **options)
    assert again.returncode == 2 and "is a bundle already" in again.stderr


def refused(folder: Path, target: Path, kind: type[SdrtError] = ExportError, **settings: Any) -> str:
    with pytest.raises(kind) as raised:
        export(str(folder), target, **settings)
    assert "\n" not in str(raised.value) and not target.exists()
    return str(raised.value)


def fix_axis(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def rename_output(graph: onnx.GraphProto) -> None:
    graph.output[0].name = "latent_sample"
    for node in graph.node:
        node.output[:] = ["latent_sample" if name == "latent_parameters" else name for name in node.output]


def add_mask(graph: onnx.GraphProto) -> None:
    graph.input.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", 77]))


def use_timestep_twice(graph: onnx.GraphProto) -> None:
    graph.node.insert(0, helper.make_node("Neg", ["timestep"], ["negative_timestep"]))


def freeze_rows(graph: onnx.GraphProto) -> None:
    """What a trace at one batch size leaves: rows that see each other."""
    graph.node[-1].output[:] = ["all_rows"]
    node = helper.make_node("ReduceMean", ["all_rows", "first_axis_of_all"], ["mean_row"], keepdims=1)
    graph.initializer.append(helper.make_tensor("first_axis_of_all", TensorProto.INT64, [1], [0]))
    graph.node.append(node)
    graph.node.append(helper.make_node("Add", ["all_rows", "mean_row"], [graph.output[0].name]))


@pytest.mark.parametrize(
    ("graph", "change", "words"),
    [
        ("unet", fix_axis, "sample of .* is \\[2, 4, .*expected \\[batch, 4, height, width\\].*dynamic axes"),
        ("unet", use_timestep_twice, "takes the timestep in a way"),
        ("vae_decoder", freeze_rows, "another row beside other rows"),
        ("vae_encoder", rename_output, "no output latent_parameters, but latent_sample; export it again"),
        ("text_encoder", add_mask, "takes attention_mask"),
    ],
)
def test_graphs_that_cannot_be_used_are_named(
    copy: Path, tmp_path: Path, graph: str, change: Callable[[onnx.GraphProto], None], words: str
) -> None:
    optimum_layout.change(copy / graph / "model.onnx", change)
    with pytest.raises(ExportError, match=words):
        export(str(copy), tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("name", ["vae_encoder/model.onnx", "unet/config.json", "tokenizer/merges.txt"])
def test_missing_files_are_named(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).unlink()
    assert Path(name).name in refused(copy, tmp_path / "target")


@pytest.mark.parametrize("content", [b"", b"\x08", b"no graph at all", b"version https://git-lfs.github.com"])
def test_damaged_graphs_are_named(copy: Path, tmp_path: Path, content: bytes) -> None:
    (copy / "unet" / "model.onnx").write_bytes(content)
    assert "unet/model.onnx" in refused(copy, tmp_path / "target")


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "sub/data"])
def test_weights_from_elsewhere_are_refused(
    folder_of: Callable[[str], Path], tmp_path: Path, location: str
) -> None:
    folder = shutil.copytree(folder_of("old"), tmp_path / "copy")
    path = folder / "unet" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(model.SerializeToString())
    assert f"reads its weights from '{location}'" in refused(folder, tmp_path / "target")


def test_missing_weights_are_named(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folder_of("old"), tmp_path / "copy")
    (folder / "unet" / "model.onnx_data").unlink()
    assert "model.onnx_data is missing" in refused(folder, tmp_path / "target")


def test_options_for_checkpoints_are_refused(copy: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert "give --precision fp32" in refused(copy, target, InputError, precision="fp16")
    assert "--half-weights" in refused(copy, target, InputError, half_weights=True)
    assert "--deep-cache cuts a checkpoint's U-Net" in refused(copy, target, InputError, deep_cache=True)
    assert "--variant" in refused(copy, target, InputError, variant="fp16")


def test_unknown_parts_are_refused(copy: Path, tmp_path: Path) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    index["controlnet"] = ["diffusers", "ControlNetModel"]
    (copy / "model_index.json").write_text(json.dumps(index))
    assert "controlnet" in refused(copy, tmp_path / "target")
