"""The settings of a checkpoint that brings none: those that its family was published with."""

from __future__ import annotations

from pathlib import Path

from sdrt.errors import ExportError
from sdrt.manifest import Family

from ..config_folder import ConfigFolder, read_config_folder
from ..configs import TOKENIZERS
from ..parameters import Tensors
from .clip_tokenizer import END, MERGES_FILE, clip_tokenizer
from .detect import UNET, Detected
from .placed import MEND
from .unet_shapes import UnevenError, unet_config

TEMPLATES = Path(__file__).parent / "templates"
FIRST_HEADS = 8  # of Stable Diffusion 1; all others have heads of 64 channels
# Stable Diffusion 2 came with two predictions, which no shape tells apart. The bias of this norm does: its
# standard deviation is above 0.09 in what predicts v, by which ComfyUI tells them apart
# (class SD20 in comfy/supported_models.py). The models that predict noise, that for inpainting among
# them, were trained at 512 pixels.
SD2_TELLTALE = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
SD2_THRESHOLD = 0.09


def settings_of_family(file: Tensors, detected: Detected) -> ConfigFolder:
    """The template of a family, with what the file tells of its U-Net and its noise.

    Raises ExportError if its U-Net is like none that a config can describe.
    """
    unet = _unet(file, detected.family)
    scheduler = marked_noise(file)
    if detected.family == "stable-diffusion-2" and not (unet["in_channels"] == 4 and _predicts_v(file)):
        scheduler = {"prediction_type": "epsilon", **scheduler}
        unet["sample_size"] = 64
    tokenizers = {
        TOKENIZERS[name]: clip_tokenizer(END if detected.parts[name].layout == "clip" else "!")
        for name in ("text_encoder", "text_encoder_2")
        if name in detected.parts
    }
    folder = TEMPLATES / detected.family
    settings = read_config_folder(
        folder, tokenizers=tokenizers, changes={"unet": unet, "scheduler": scheduler}
    )
    return ConfigFolder(
        configs=settings.configs,
        components=settings.components,
        tokenizers=settings.tokenizers,
        files=(*settings.files, MERGES_FILE),
    )


def marked_noise(file: Tensors) -> dict[str, object]:
    """What a file says of its noise by empty tensors, as fine-tunes do: options of a scheduler's config.

    `v_pred`: it predicts v; `ztsnr`: the schedule ends in pure noise (Lin et al. 2023,
    https://arxiv.org/abs/2305.08891), of which timesteps then must begin.
    """
    if "v_pred" not in file:
        return {}
    if "ztsnr" not in file:
        return {"prediction_type": "v_prediction"}
    return {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }


def _unet(file: Tensors, family: Family) -> dict[str, object]:
    inside = {key.removeprefix(UNET.prefix): file.shape(key) for key in file if key.startswith(UNET.prefix)}
    try:
        return unet_config(inside, heads=FIRST_HEADS if family == "stable-diffusion-1" else None)
    except KeyError as missing:
        raise ExportError(f"{file.path} has no {UNET.prefix}{missing.args[0]}; {MEND}") from None
    except (UnevenError, IndexError):
        raise ExportError(f"the blocks of the U-Net in {file.path} are uneven; {MEND}") from None


def _predicts_v(file: Tensors) -> bool:
    return SD2_TELLTALE in file and file[SD2_TELLTALE].float().std(correction=0).item() > SD2_THRESHOLD
