"""The three networks of the demo model, untrained."""

from __future__ import annotations

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerBase

from .drawing import RESOLUTION

WIDTH = 128
VAE_FACTOR = 8


def build_vae() -> AutoencoderKL:
    """1.3 M parameters; pictures [B, 3, 64, 64] in -1..1, latents [B, 4, 8, 8]."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 80),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=RESOLUTION,
    )


def build_text_encoder(tokenizer: PreTrainedTokenizerBase) -> CLIPTextModel:
    """0.5 M parameters; tokens [B, 77], hidden states [B, 77, 128]."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_unet() -> UNet2DConditionModel:
    """2.7 M parameters, attention to the text on every level."""
    return UNet2DConditionModel(
        sample_size=RESOLUTION // VAE_FACTOR,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 96),
        layers_per_block=1,
        norm_num_groups=16,
        time_embedding_dim=128,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
    )


def build_scheduler(spacing: str = "leading") -> DDIMScheduler:
    """The noise schedule of Stable Diffusion 1.5, with velocity prediction."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
        timestep_spacing=spacing,
    )
