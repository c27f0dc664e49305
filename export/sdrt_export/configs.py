"""The configs of a Stable Diffusion 1 checkpoint, checked and turned into the settings of a manifest."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdrt.errors import ExportError
from sdrt.manifest import Defaults, TextSettings, VaeSettings
from sdrt.samplers.schedule import NoiseSchedule

from .scheduler import read_scheduler

Config = Mapping[str, Any]

# Options of UNet2DConditionModel that lead through code which UNetGraph does not have.
ABSENT_FROM_UNET = (
    "addition_embed_type",
    "center_input_sample",
    "class_embed_type",
    "dual_cross_attention",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "num_class_embeds",
    "time_cond_proj_dim",
)


@dataclass(frozen=True, kw_only=True)
class Configs:
    """Configs as read from the checkpoint, and the settings that follow from them."""

    text_encoder: Config
    unet: Config
    vae: Config
    scheduler: Config
    text: TextSettings
    defaults: Defaults

    @property
    def vae_settings(self) -> VaeSettings:
        """Scaling and shape of the latents."""
        return VaeSettings(
            scaling_factor=self.vae["scaling_factor"],
            scale_factor=2 ** (len(self.vae["block_out_channels"]) - 1),
            latent_channels=self.vae["latent_channels"],
        )

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule, as the scheduler's class reads its config."""
        return read_scheduler(self.scheduler).schedule


def with_defaults(diffusers_class: type, config: Config) -> dict[str, Any]:
    """Fill in what a config file is silent about from the signature of its class."""
    parameters = inspect.signature(diffusers_class.__init__).parameters.values()  # type: ignore[misc]
    return {p.name: p.default for p in parameters if p.default is not p.empty} | dict(config)


def check_family(unet: Config, vae: Config, text_encoder: Config, scheduler: Config) -> None:
    """Raise ExportError unless these are the configs of a Stable Diffusion 1 text-to-image model."""
    width = unet["cross_attention_dim"]
    if unet["addition_embed_type"] == "text_time":
        raise ExportError(
            "this is a Stable Diffusion XL checkpoint; sdrt exports Stable Diffusion 1.x so far"
        )
    if unet["use_linear_projection"] or width == 1024:
        raise ExportError(
            "this is a Stable Diffusion 2.x checkpoint; sdrt exports Stable Diffusion 1.x so far"
        )
    if unet["in_channels"] != vae["latent_channels"]:
        raise ExportError(
            f"the U-Net takes {unet['in_channels']} channels and the VAE gives {vae['latent_channels']}: "
            "inpainting and edit models are not supported; use a text-to-image checkpoint"
        )
    if width != text_encoder["hidden_size"]:
        raise ExportError(
            f"the U-Net expects text of width {width}, the text encoder gives {text_encoder['hidden_size']}; "
            "the parts of this checkpoint do not belong together"
        )
    odd = [name for name in ABSENT_FROM_UNET if unet.get(name)]
    odd += [name for name in ("shift_factor", "latents_mean", "latents_std") if vae.get(name)]
    if odd:
        raise ExportError(f"{' and '.join(odd)} in a config is not part of Stable Diffusion 1.x")
    read_scheduler(scheduler)


def default_request(unet: Config, vae: Config, scheduler: Config, overrides: Config) -> Defaults:
    """Size, steps, guidance and sampler of a request that names none.

    overrides: the checkpoint's own `sdrt_defaults.json`. Raises ExportError if it has other fields.
    """
    size = unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
    fields = {
        "width": size,
        "height": size,
        "steps": 20,
        "guidance_scale": 7.5,
        "sampler": read_scheduler(scheduler).sampler,
    }
    unknown = overrides.keys() - fields.keys()
    if unknown:
        raise ExportError(f"sdrt_defaults.json has unknown fields {sorted(unknown)}; known: {sorted(fields)}")
    return Defaults(**(fields | dict(overrides)))
