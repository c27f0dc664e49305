"""Write a trained run as a checkpoint in FP16: `python -m sdrt_export.demo.package --run RUN --to DIR`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False)


def write_checkpoint(
    run: Path, folder: Path, steps: int, guidance: float, sampler: str, spacing: str
) -> None:
    """Assemble the parts of a run into a diffusers folder, rounded to float16, with its default settings."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    from .drawing import RESOLUTION
    from .generators import DEFAULTS_FILE, assemble_pipeline
    from .models import build_scheduler

    pipe = assemble_pipeline(
        AutoencoderKL.from_pretrained(run / "vae"),
        CLIPTextModel.from_pretrained(run / "text_encoder"),
        CLIPTokenizer.from_pretrained(run / "tokenizer"),
        UNet2DConditionModel.from_pretrained(run / "unet"),
        build_scheduler(spacing),
    )
    pipe.to(dtype=torch.float16).save_pretrained(folder)
    name_as_published(folder / "text_encoder" / "model.safetensors")
    shutil.copytree(run / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    for path in folder.rglob("*.*"):  # safetensors files are written for their owner alone
        path.chmod(0o644)
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)  # the folder of the run, which means nothing elsewhere
        path.write_text(json.dumps(config, indent=2) + "\n")
    defaults = {
        "width": RESOLUTION,
        "height": RESOLUTION,
        "steps": steps,
        "guidance_scale": guidance,
        "sampler": sampler,
    }
    (folder / DEFAULTS_FILE).write_text(json.dumps(defaults, indent=2) + "\n")


def name_as_published(weights: Path) -> None:
    """Name a CLIP text encoder's tensors as published checkpoints do: `text_model.` before each.

    transformers 5 reads both and saves without. transformers 4.57 and 5.5 do not find those: they warn, and
    go on with random weights.
    """
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    prefix = "" if any(name.startswith("text_model.") for name in tensors) else "text_model."
    save_file({prefix + name: tensor for name, tensor in tensors.items()}, weights, {"format": "pt"})


@click.command()
@click.option("--run", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option(
    "--to", "folder", type=FOLDER, default=Path(__file__).with_name("checkpoint"), show_default=True
)
@click.option("--steps", default=20, show_default=True)
@click.option("--guidance", default=2.0, show_default=True)
@click.option(
    "--sampler", type=click.Choice(["ddim", "euler", "dpmpp_2m"]), default="ddim", show_default=True
)
@click.option(
    "--spacing", type=click.Choice(["leading", "trailing", "linspace"]), default="leading", show_default=True
)
def main(run: Path, folder: Path, steps: int, guidance: float, sampler: str, spacing: str) -> None:
    """Write the checkpoint of a finished run."""
    write_checkpoint(run, folder, steps, guidance, sampler, spacing)


if __name__ == "__main__":
    main()
