"""A Stable Diffusion 1 checkpoint small enough to export in seconds."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sdrt_export import export
from sdrt_export.staging import Staging

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = [("a", "b"), ("t", "h"), ("th", "e</w>"), ("r", "e"), ("re", "d</w>"), ("Ã", "©")]


def make_tokenizer() -> CLIPTokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [
        *alphabet,
        *(letter + "</w>" for letter in alphabet),
        *("".join(pair) for pair in MERGES),
        START,
        END,
    ]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=MERGES, model_max_length=77)


def make_tiny_checkpoint(folder: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Write a seeded random checkpoint with all parts of the demo's style: 1/8 of its width."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            hidden_act="quick_gelu",
            projection_dim=32,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=4,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
    )
    for name, model in {"text_encoder": text_encoder, "unet": unet, "vae": vae}.items():
        _spread_norms(model)
        model.to(dtype).save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "requires_safety_checker": True,
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _spread_norms(model: nn.Module) -> None:
    """Make the weights of norms differ, as in a trained model; a trainer starts them all at one."""
    for module in model.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            nn.init.normal_(module.weight, 1.0, 0.1)
            nn.init.normal_(module.bias, 0.0, 0.1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint whose weights are FP16 numbers, in FP32 files."""
    folder = make_tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")
    for path in folder.rglob("*.safetensors"):
        save_file(
            {name: value.half().float() for name, value in load_file(path).items()}, path, {"format": "pt"}
        )
    return folder


@dataclass(frozen=True)
class Exported:
    """A bundle, and its staging folder as it was the moment before it was moved into place."""

    bundle: Path
    staging: Path

    def stage(self, target: Path) -> Path:
        """Leave beside `target` what an export killed at its very end leaves there; returns that folder."""
        root = target.parent / f".{target.name}.sdrt-staging"
        shutil.copytree(self.staging, root)
        return root


@pytest.fixture(scope="session")
def exported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("bundles")
    commit = Staging.commit

    def keep_and_commit(self: Staging) -> None:
        shutil.copytree(self.root, folder / "staging")
        commit(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Staging, "commit", keep_and_commit)
        return Exported(export(str(tiny), folder / "tiny"), folder / "staging")


@pytest.fixture(scope="session")
def tiny_bundle(exported: Exported) -> Path:
    return exported.bundle
