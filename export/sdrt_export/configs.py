"""The configs of a checkpoint, checked and turned into the settings of a manifest.

What a model is follows from its configs alone: how wide its text encoders are, what its U-Net is told.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from transformers import CLIPTokenizer

from sdrt.errors import ExportError
from sdrt.manifest import Conditioning, Defaults, Family, TextEncoderName, TextSettings, VaeSettings
from sdrt.samplers.schedule import NoiseSchedule

from .scheduler import read_scheduler
from .tokenizer import text_settings

Config = Mapping[str, Any]

TEXT_ENCODERS: tuple[TextEncoderName, ...] = ("text_encoder", "text_encoder_2")
TOKENIZERS: dict[TextEncoderName, str] = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
# Options of UNet2DConditionModel that lead through code which UNetGraph does not have.
ABSENT_FROM_UNET = (
    "class_embed_type",
    "dual_cross_attention",
    "num_class_embeds",
)
# Blocks that go up to any size: the others double it, and would not meet the skips of odd sizes.
_BLOCKS: dict[str, tuple[str | None, ...]] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "mid_block_type": (
        "UNetMidBlock2DCrossAttn",
        "UNetMidBlock2D",
        "UNetMidBlock2DSimpleCrossAttn",
        None,  # pruned models: BK-SDM-Small, tiny-sd
    ),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
# What a U-Net is shown in the channels behind those of its latents, by their number.
_PICTURES: dict[int, Literal["inpainting", "edit"] | None] = {0: None, 4: "edit", 5: "inpainting"}
ABSENT_FROM_VAE = ("shift_factor", "latents_mean", "latents_std")


@dataclass(frozen=True, kw_only=True)
class Configs:
    """Configs as read from the checkpoint, and the settings that follow from them.

    text_encoders: those there are, in the order in which their hidden states are put side by side.
    """

    text_encoders: Mapping[TextEncoderName, Config]
    unet: Config
    vae: Config
    scheduler: Config
    text: tuple[TextSettings, ...]
    conditioning: Conditioning
    defaults: Defaults

    @property
    def family(self) -> Family:
        """What people call it."""
        if self.conditioning.time_ids == "aesthetic_score":
            return "stable-diffusion-xl-refiner"
        if self.conditioning.time_ids == "sizes":
            return "stable-diffusion-xl"
        return "stable-diffusion-2" if prompt_width(self.unet) == 1024 else "stable-diffusion-1"

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


def read_configs(
    *,
    index: Config,
    text_encoders: Mapping[TextEncoderName, Config],
    unet: Config,
    vae: Config,
    scheduler: Config,
    tokenizers: Mapping[str, CLIPTokenizer],
    overrides: Config,
) -> Configs:
    """Check that the parts of a checkpoint make a model that sdrt can run, and derive its settings.

    index: model_index.json; unet, vae: with their defaults filled in; tokenizers: by folder name;
    overrides: the checkpoint's own `sdrt_defaults.json`.
    Raises ExportError, saying what is not supported or does not fit.
    """
    _check_options(unet, vae)
    text_encoders = {
        name: _with_end_token(config, tokenizers[TOKENIZERS[name]]) for name, config in text_encoders.items()
    }
    _check_widths(text_encoders, unet, vae)
    scheduler = _as_built(scheduler, index)
    read_scheduler(scheduler)
    time_ids = _time_ids(text_encoders, unet)
    if index.get("is_cosxl_edit"):
        raise ExportError("is_cosxl_edit in model_index.json is not supported; take another edit model")
    return Configs(
        text_encoders=text_encoders,
        unet=unet,
        vae=vae,
        scheduler=scheduler,
        text=tuple(
            text_settings(
                tokenizers[TOKENIZERS[name]],
                config["max_position_embeddings"],
                config["vocab_size"],
                graph=name,
                tokenizer_file=f"{TOKENIZERS[name]}/tokenizer.json",
                # the states before the last layer are what Stable Diffusion XL was trained on
                hidden_states=layers[1] if time_ids else layers[0],
                pooled="text_embeds" if name == "text_encoder_2" else None,
                clip_skip_outputs=layers,
            )
            for name, config in text_encoders.items()
            for layers in [_layers(config["num_hidden_layers"], normalized=time_ids is None)]
        ),
        conditioning=Conditioning(
            time_ids=time_ids,
            zeros_without_negative=bool(time_ids and index.get("force_zeros_for_empty_prompt", True)),
            guidance_embedding=unet["time_cond_proj_dim"],
            picture=_PICTURES[unet["in_channels"] - vae["latent_channels"]],
        ),
        defaults=_default_request(unet, vae, scheduler, overrides, guidance_scale=5.0 if time_ids else 7.5),
    )


def prompt_width(unet: Config) -> int:
    """Width of the encoder hidden states that a U-Net takes.

    Raises ExportError if its cross attentions take several widths, which no text encoder gives.
    """
    if unet["encoder_hid_dim"] is not None:
        return int(unet["encoder_hid_dim"])
    widths = unet["cross_attention_dim"]
    if isinstance(widths, int):
        return widths
    levels = (
        *zip(unet["down_block_types"], widths, strict=False),
        (unet["mid_block_type"] or "", widths[-1]),
        *zip(unet["up_block_types"], reversed(widths), strict=False),
    )
    attending = {width for kind, width in levels if "CrossAttn" in kind}
    if len(attending) != 1:
        raise ExportError(
            f"cross_attention_dim {list(widths)} in the config of the U-Net is not supported: "
            "all levels that attend to the prompt must take the same width"
        )
    return int(attending.pop())


def with_defaults(diffusers_class: type, config: Config) -> dict[str, Any]:
    """Fill in what a config file is silent about from the signature of its class."""
    parameters = inspect.signature(diffusers_class.__init__).parameters.values()  # type: ignore[misc]
    return {p.name: p.default for p in parameters if p.default is not p.empty} | dict(config)


def _layers(count: int, *, normalized: bool) -> tuple[str, ...]:
    """Outputs of a text encoder graph that clip skip 1, 2 .. takes."""
    if normalized:
        return ("last_hidden_state", *(f"clip_skip.{number}" for number in range(2, count + 1)))
    return tuple(f"hidden_states.{number}" for number in range(count, 0, -1))


def _as_built(scheduler: Config, index: Config) -> Config:
    """The config as read by the class that model_index.json names: diffusers builds that one."""
    match index.get("scheduler"):
        case [_, str(name)]:
            return {**scheduler, "_class_name": name}
    return scheduler


def _with_end_token(config: Config, tokenizer: CLIPTokenizer) -> Config:
    """Fill in the end token, which configs of before transformers 4.31 give as 2.

    For these transformers takes as pooled state that of the largest id. It is the end token's until a word
    is added, whose id is larger.
    """
    return {**config, "eos_token_id": tokenizer.eos_token_id} if config["eos_token_id"] == 2 else config


def _check_options(unet: Config, vae: Config) -> None:
    for option, config, part in (
        *((name, unet, "the U-Net") for name in ABSENT_FROM_UNET),
        *((name, vae, "the VAE") for name in ABSENT_FROM_VAE),
    ):
        if config.get(option):
            raise ExportError(f"{option} {config[option]!r} in the config of {part} is not supported")
    for option, known in _BLOCKS.items():
        kinds = unet[option] if isinstance(unet[option], list | tuple) else [unet[option]]
        for kind in kinds:
            if kind not in known:
                raise ExportError(
                    f"{option} {kind!r} in the config of the U-Net is not supported; "
                    f"sdrt knows {', '.join(map(str, known))}"
                )
    # UNet2DConditionModel takes a width alone for a projection of the text
    projection = unet["encoder_hid_dim_type"]
    if projection not in (None, "text_proj"):
        raise ExportError(
            f"encoder_hid_dim_type {projection!r} in the config of the U-Net is not supported; "
            "sdrt knows text_proj"
        )


def _check_widths(text_encoders: Mapping[TextEncoderName, Config], unet: Config, vae: Config) -> None:
    latents, seen = vae["latent_channels"], unet["in_channels"]
    if seen - latents not in _PICTURES:
        raise ExportError(
            f"the U-Net takes {seen} channels and the VAE gives {latents}; supported are {latents}, "
            f"{latents + 4} (InstructPix2Pix) and {latents + 5} (inpainting)"
        )
    if unet["out_channels"] != latents:
        raise ExportError(
            f"the U-Net gives {unet['out_channels']} channels and the VAE takes {latents}; "
            "models that predict the variance too are not supported"
        )
    expected, given = prompt_width(unet), sum(c["hidden_size"] for c in text_encoders.values())
    if expected != given:
        raise ExportError(
            f"the U-Net expects text of width {expected}, the text encoder gives {given}; "
            "the parts of this checkpoint do not belong together"
        )


def _time_ids(
    text_encoders: Mapping[TextEncoderName, Config], unet: Config
) -> Literal["sizes", "aesthetic_score"] | None:
    """Which numbers the U-Net is told: as many as its embedding has room for beside the pooled prompt."""
    kind = unet["addition_embed_type"]
    if kind in (None, "text"):  # the second is computed from the hidden states
        return None
    if kind != "text_time" or "text_encoder_2" not in text_encoders:
        raise ExportError(
            f"addition_embed_type {kind!r} in the config of the U-Net is not supported; "
            "sdrt knows text, and text_time with a text_encoder_2"
        )
    pooled = text_encoders["text_encoder_2"]["projection_dim"]
    room = unet["projection_class_embeddings_input_dim"] - pooled
    numbers = room / unet["addition_time_embed_dim"]
    if numbers == 6:
        return "sizes"
    if numbers == 5:
        return "aesthetic_score"
    raise ExportError(
        f"the U-Net has room for {numbers:g} numbers beside a pooled prompt of width {pooled}; "
        "expected 6 (sizes) or 5 (with an aesthetic score)"
    )


def _default_request(
    unet: Config, vae: Config, scheduler: Config, overrides: Config, *, guidance_scale: float
) -> Defaults:
    """Size, steps, guidance and sampler of a request that names none.

    Raises ExportError if the overrides have other fields.
    """
    scale = 2 ** (len(vae["block_out_channels"]) - 1)
    height, width = _sample_size(unet)
    fields = {
        "width": width * scale,
        "height": height * scale,
        "steps": 20,
        "guidance_scale": guidance_scale,
        "sampler": read_scheduler(scheduler).sampler,
    }
    unknown = overrides.keys() - fields.keys()
    if unknown:
        raise ExportError(f"sdrt_defaults.json has unknown fields {sorted(unknown)}; known: {sorted(fields)}")
    return Defaults(**(fields | dict(overrides)))


def _sample_size(unet: Config) -> tuple[int, int]:
    """Height and width in latent pixels that the U-Net was trained on; 64 x 64 if it does not say."""
    match unet["sample_size"]:
        case None:
            return 64, 64
        case int(size):
            return size, size
        case [int(height), int(width)]:
            return height, width
    raise ExportError(
        f"sample_size {unet['sample_size']!r} in the config of the U-Net should be "
        "a number, or height and width"
    )
