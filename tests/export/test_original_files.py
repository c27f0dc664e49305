"""Small checkpoints in one file, of every family: what is read from them, and what is refused."""

from __future__ import annotations

import hashlib
import pickle
import socket
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import original_layout
import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from sdrt.errors import ExportError, InputError, SdrtError
from sdrt_export.original import open_single_file

UNET = "model.diffusion_model."
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
PIPELINES = {
    "sd1": "StableDiffusionPipeline",
    "sd2": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "sdxl-refiner": "StableDiffusionXLImg2ImgPipeline",
}


@pytest.fixture(scope="module")
def folders(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small checkpoint of each family in diffusers layout."""
    root = tmp_path_factory.mktemp("folders")
    return {"sd1": tiny} | {
        family: tiny_models.write(family, root / family) for family in ("sd2", "sdxl", "sdxl-refiner")
    }


@pytest.fixture(scope="module")
def components(folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    return {family: original_layout.load_components(family, folder) for family, folder in folders.items()}


@pytest.fixture
def write(components: dict[str, dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """Write the small checkpoint of a family in the original layout."""

    def write_file(family: str, name: str = "model.safetensors", dtype: torch.dtype = torch.float32) -> Path:
        return original_layout.write(family, components[family], tmp_path / name, dtype)

    return write_file


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def opened(path: Path, config: Path | None, *, allow_pickle: bool = False):
    return open_single_file(path, source=str(path), config=config, allow_pickle=allow_pickle)


def failure(path: Path, config: Path | None = None, *, allow_pickle: bool = False) -> str:
    """The one line that is said of a file; it names the file."""
    with pytest.raises((InputError, ExportError)) as raised:
        opened(path, config, allow_pickle=allow_pickle)
    message = str(raised.value)
    assert "\n" not in message and str(path) in message
    return message


def edit(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = load_file(path)
    change(state)
    save_file(state, path)


def assert_holds(checkpoint: Any, models: dict[str, Any], dtype: torch.dtype) -> None:
    assert set(checkpoint.parameters) == set(models)
    for component, model in models.items():
        weights = checkpoint.weights(component)
        assert checkpoint.parameters[component] == sum(value.numel() for value in model.parameters())
        for name, value in model.named_parameters():
            read = weights[name]
            assert read.dtype == dtype and weights.shape(name) == tuple(read.shape), name
            assert torch.equal(read, value.to(dtype)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", PIPELINES)
def test_every_parameter_is_read_as_it_was_written(
    family, dtype, write, folders, components, no_network
) -> None:
    checkpoint = opened(write(family, dtype=dtype), folders[family])
    assert_holds(checkpoint, components[family], dtype)


@pytest.mark.parametrize("family", PIPELINES)
def test_diffusers_reads_the_same(family, write, folders) -> None:
    """So the files of these tests are laid out as those that people have."""
    import diffusers

    path = write(family)
    pipeline = getattr(diffusers, PIPELINES[family]).from_single_file(
        str(path), config=str(folders[family]), local_files_only=True, safety_checker=None
    )
    checkpoint = opened(path, folders[family])
    theirs = {name: getattr(pipeline, name) for name in checkpoint.parameters}
    assert_holds(checkpoint, theirs, torch.float32)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_checkpoint_needs_permission(legacy, write, folders, components) -> None:
    path = write("sd1", "model.ckpt", torch.float16)
    if legacy:  # as PyTorch wrote before 1.6
        torch.save(torch.load(path), path, _use_new_zipfile_serialization=False)
    assert "--allow-pickle" in failure(path, folders["sd1"])
    checkpoint = opened(path, folders["sd1"], allow_pickle=True)
    assert_holds(checkpoint, components["sd1"], torch.float16)


class ModelCheckpoint:
    """By this name trainers pickled a record of theirs."""

    __module__ = "pytorch_lightning.callbacks.model_checkpoint"

    def __init__(self) -> None:
        self.best = 1


def test_records_of_a_trainer_are_passed_over(write, folders, components, monkeypatch) -> None:
    path = write("sd1", "model.ckpt")
    content = torch.load(path) | {"callbacks": {ModelCheckpoint: ModelCheckpoint()}}
    with monkeypatch.context() as patch:
        names = ModelCheckpoint.__module__.split(".")
        for end in range(1, len(names) + 1):
            module = types.ModuleType(".".join(names[:end]))
            module.ModelCheckpoint = ModelCheckpoint
            patch.setitem(sys.modules, module.__name__, module)
        torch.save(content, path)
    checkpoint = opened(path, folders["sd1"], allow_pickle=True)
    assert_holds(checkpoint, components["sd1"], torch.float32)


class Bomb:
    """A pickle that leaves a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [False, True])
def test_code_in_a_pickle_is_never_run(zipped, tmp_path) -> None:
    path, content = tmp_path / "model.ckpt", {"state_dict": {"a": Bomb(tmp_path / "ran")}}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    assert failure(path, allow_pickle=True)
    path = path.rename(tmp_path / "model.safetensors")
    assert "pickle by another name" in failure(path, allow_pickle=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
@pytest.mark.parametrize("size", [0, 7, 3000, -1])
def test_truncated_file_is_told(name, size, write, folders) -> None:
    path = write("sd1", name)
    path.write_bytes(path.read_bytes()[:size])
    assert "download it again" in failure(path, folders["sd1"], allow_pickle=True)


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
def test_git_lfs_pointer_is_told(name, tmp_path) -> None:
    (tmp_path / name).write_text(POINTER)
    assert "git lfs pull" in failure(tmp_path / name, allow_pickle=True)


def test_absent_file_is_told(tmp_path) -> None:
    assert "missing" in failure(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "key",
    [
        f"{UNET}input_blocks.0.0.weight",
        f"{UNET}output_blocks.1.1.norm.bias",
        "first_stage_model.decoder.mid.attn_1.q.weight",
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias",
        "conditioner.embedders.1.model.transformer.resblocks.2.attn.in_proj_bias",
        "conditioner.embedders.1.model.text_projection",
    ],
)
def test_missing_key_is_named(key, write, folders) -> None:
    path = write("sdxl")
    edit(path, lambda state: state.pop(key))
    assert f"has no {key}" in failure(path, folders["sdxl"])


def test_key_without_use_is_named(write, folders) -> None:
    path = write("sdxl")
    key = f"{UNET}input_blocks.1.1.proj_in.weight"
    edit(path, lambda state: state.update({key: torch.zeros(1)}))
    assert key in failure(path, folders["sdxl"])


def test_other_shape_is_named(write, folders) -> None:
    path = write("sd1")
    key = "first_stage_model.quant_conv.bias"
    edit(path, lambda state: state.update({key: torch.zeros(3)}))
    message = failure(path, folders["sd1"])
    assert key in message and "(3,)" in message and "(8,)" in message


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bit_weights_are_read_as_half(dtype, name, write, folders, components) -> None:
    """FP16 holds each number of both types."""
    checkpoint = opened(write("sd1", name, dtype), folders["sd1"], allow_pickle=True)
    for component, model in components["sd1"].items():
        weights = checkpoint.weights(component)
        for key, value in model.named_parameters():
            assert weights[key].dtype == torch.float16
            assert torch.equal(weights[key].float(), value.to(dtype).float()), key


def test_whole_numbers_are_refused(write, folders) -> None:
    path = write("sd1")
    key = f"{UNET}out.2.weight"
    edit(path, lambda state: state.update({key: state[key].to(torch.int8)}))
    message = failure(path, folders["sd1"])
    assert key in message and "I8" in message


def averaged(key: str) -> str:
    return "model_ema." + key.removeprefix("model.").replace(".", "")


WRAPPERS: dict[str, Callable[[str], str]] = {
    "nested": lambda key: f"state_dict.{key}",
    "compiled as a whole": lambda key: f"_orig_mod.{key}",
    "a compiled U-Net": lambda key: key.replace(UNET, f"{UNET}_orig_mod."),
    "distributed, compiled and nested": lambda key: f"state_dict.module._orig_mod.{key}",
    "moving averages": lambda key: averaged(key) if key.startswith(UNET) else key,
    "moving averages with dots": lambda key: (
        key.replace("model.", "model_ema.", 1) if key.startswith(UNET) else key
    ),
}


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_keys_are_read(wrapper, name, write, folders, components) -> None:
    path = write("sdxl", "plain.safetensors")
    state = {WRAPPERS[wrapper](key): value for key, value in load_file(path).items()}
    path = path.with_name(name)
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    assert_holds(opened(path, folders["sdxl"], allow_pickle=True), components["sdxl"], torch.float32)


def test_moving_averages_beside_the_weights_are_left_aside(write, folders, components) -> None:
    path = write("sd1")

    def add(state: dict[str, torch.Tensor]) -> None:
        state |= {averaged(key): value + 1 for key, value in state.items() if key.startswith(UNET)}

    edit(path, add)
    assert_holds(opened(path, folders["sd1"]), components["sd1"], torch.float32)


def test_the_same_under_two_wrappers_is_told(write, folders) -> None:
    path = write("sd1")
    key = f"{UNET}out.2.bias"
    edit(path, lambda state: state.update({f"state_dict.{key}": torch.zeros(4)}))
    message = failure(path, folders["sd1"])
    assert f"{key} twice" in message and f"state_dict.{key}" in message


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_what_a_file_says_of_its_noise_stands_above_its_configs(zero_snr, family, write, folders) -> None:
    path = write(family)
    marks = ("v_pred", "ztsnr") if zero_snr else ("v_pred",)
    edit(path, lambda state: state.update({mark: torch.zeros(0) for mark in marks}))
    schedule = opened(path, folders[family]).configs.schedule
    assert schedule.prediction_type == "v_prediction"
    assert schedule.rescale_betas_zero_snr == zero_snr
    assert (schedule.alphas_cumprod()[-1] == 0) == zero_snr


def without_vae(part: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def remove(state: dict[str, torch.Tensor]) -> None:
        for key in [key for key in state if key.startswith(f"first_stage_model.{part}")]:
            del state[key]

    return remove


@pytest.mark.parametrize("part", ["", "encoder.", "decoder."])
def test_file_without_a_whole_vae_takes_another(part, write, folders, components) -> None:
    from sdrt_export.sources import open_source

    path, folder = write("sdxl"), folders["sdxl"]
    edit(path, without_vae(part))
    message = failure(path, folder)
    assert f"has no {part.removesuffix('.') or 'VAE'}" in message and "--vae" in message
    checkpoint = open_source(str(path), config=folder, vae=folder / "vae")
    assert_holds(checkpoint, components["sdxl"], torch.float32)


def test_configs_of_another_family_are_told(write, folders) -> None:
    assert "text_encoder_2" in failure(write("sdxl"), folders["sd1"])


def test_first_spellings_are_read(write, folders, components) -> None:
    """CLIP without `text_model`; OpenCLIP's projection stored as a layer."""

    def respell(state: dict[str, torch.Tensor]) -> None:
        for key in [key for key in state if ".transformer.text_model." in key]:
            state[key.replace(".text_model.", ".")] = state.pop(key)
        if (key := "conditioner.embedders.1.model.text_projection") in state:
            state[f"{key}.weight"] = state.pop(key).T.contiguous()

    for family in ("sd1", "sdxl"):
        path = write(family)
        edit(path, respell)
        assert_holds(opened(path, folders[family]), components[family], torch.float32)


def test_stable_diffusion_2_under_the_prefix_of_xl(write, folders, components) -> None:
    path = write("sd2")

    def respell(state: dict[str, torch.Tensor]) -> None:
        for key in [key for key in state if key.startswith("cond_stage_model.")]:
            state[key.replace("cond_stage_model.", "conditioner.embedders.0.")] = state.pop(key)

    edit(path, respell)
    assert_holds(opened(path, folders["sd2"]), components["sd2"], torch.float32)


def test_fingerprint_follows_file_and_configs(write, folders) -> None:
    path = write("sd1")
    first = opened(path, folders["sd1"]).fingerprint
    assert opened(path, folders["sd1"]).fingerprint == first
    edit(path, lambda state: state[f"{UNET}out.2.bias"].add_(1))
    assert opened(path, folders["sd1"]).fingerprint != first


def test_hash_is_that_of_the_file(write, folders) -> None:
    path = write("sd1")
    assert opened(path, folders["sd1"]).file_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


OTHERS = {
    "a LoRA": ["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"],
    "a ControlNet": ["control_model.time_embed.0.weight"],
    "Stable Diffusion 3": [f"{UNET}joint_blocks.0.context_block.adaLN_modulation.1.bias"],
    "Flux": [f"{UNET}double_blocks.0.img_attn.norm.key_norm.scale"],
    "Stable Cascade": ["clip_txt_mapper.weight"],
    "an embedding": ["clip_l", "clip_g"],
    "a VAE alone": ["decoder.conv_in.weight", "decoder.conv_in.bias"],
    "a U-Net alone": ["input_blocks.0.0.weight", "input_blocks.0.0.bias"],
    "model_index.json": ["conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"],
    "a text encoder alone": ["text_model.encoder.layers.0.mlp.fc1.weight", "text_model.x"],
    "no text encoder": [f"{UNET}input_blocks.0.0.weight", f"{UNET}input_blocks.0.0.bias"],
    "unCLIP": [f"{UNET}input_blocks.0.0.bias", f"{UNET}label_emb.0.0.weight"],
    "no checkpoint": ["a", "b"],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_called_by_their_name(kind, tmp_path) -> None:
    path = tmp_path / "file.safetensors"
    save_file({key: torch.zeros(4, 4, 1, 1) for key in OTHERS[kind]}, path)
    with pytest.raises(InputError, match=kind):
        opened(path, None)
    assert failure(path)


def test_small_model_needs_its_configs(write) -> None:
    """Without them it would be one of the published size."""
    with pytest.raises(SdrtError, match=r"U-Net expects text of width 32"):
        opened(write("sd1"), None)
