"""What each graph computes, as a module that torch.export can trace for every size.

Each module holds the model as `model`, so that a parameter's name in the graph is its name in the checkpoint
behind the prefix `model.`. `reference` is the model's own forward, which the graph is measured against.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection


class TextEncoderGraph(nn.Module):
    """Hidden states of the last layer, and of those before it as if it were the last.

    input_ids [B, max_length] int64 -> last_hidden_state [B, max_length, D], pooler_output [B, D],
    clip_skip.2 .. L [B, max_length, D]: the N-th layer from the end, then the norm that follows the last.
    """

    def __init__(self, model: CLIPTextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        """Encode the tokens; pooler_output is the hidden state at the first end token."""
        return self.reference(self.model, input_ids)

    @staticmethod
    def reference(model: CLIPTextModel, input_ids: Tensor) -> tuple[Tensor, ...]:
        """Run the model's own forward."""
        output = model(input_ids=input_ids, output_hidden_states=True)
        # [0] are the embeddings, [-1] what last_hidden_state is the norm of
        skipped = (model.final_layer_norm(states) for states in output.hidden_states[-2:0:-1])
        return output.last_hidden_state, output.pooler_output, *skipped


class TextEncoderStatesGraph(nn.Module):
    """As TextEncoderGraph, with the hidden states before each layer and after the last one as well.

    input_ids [B, max_length] int64 -> last_hidden_state, pooler_output, hidden_states.0 .. N; with a
    projection text_embeds [B, P], last_hidden_state, hidden_states.0 .. N.
    """

    def __init__(self, model: CLIPTextModel | CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        """Encode the tokens."""
        return self.reference(self.model, input_ids)

    @staticmethod
    def reference(
        model: CLIPTextModel | CLIPTextModelWithProjection, input_ids: Tensor
    ) -> tuple[Tensor, ...]:
        """Run the model's own forward."""
        output = model(input_ids=input_ids, output_hidden_states=True)
        if isinstance(model, CLIPTextModelWithProjection):
            return output.text_embeds, output.last_hidden_state, *output.hidden_states
        return output.last_hidden_state, output.pooler_output, *output.hidden_states


class UNetGraph(nn.Module):
    """One prediction per row: out_sample [R, C, h, w].

    sample: noisy latents [R, C, h, w]; timestep: [R] float32; encoder_hidden_states: the prompt, [R, L, D].
    text_embeds [R, P], time_ids [R, 6] or [R, 5]: pooled prompt and sizes, of Stable Diffusion XL.
    timestep_cond: [R, W], embedding of the guidance scale, of models that were distilled with it.
    image_latents: [R, C', h, w], channels that follow those of `sample`, of models that are shown a picture.
    """

    def __init__(self, model: UNet2DConditionModel) -> None:
        super().__init__()
        _replace_upsamplers(model)
        self.model = model

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        text_embeds: Tensor | None = None,
        time_ids: Tensor | None = None,
        timestep_cond: Tensor | None = None,
        image_latents: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Predict once per row."""
        model = self.model
        temb = embed(model, sample, timestep, encoder_hidden_states, text_embeds, time_ids, timestep_cond)
        prompt = project_prompt(model, encoder_hidden_states)
        return self._predict(first_layer(model, sample, image_latents), temb, prompt)

    def _predict(
        self, hidden_states: Tensor, temb: Tensor, encoder_hidden_states: Tensor
    ) -> tuple[Tensor, ...]:
        """Predict from what the first layer gives, with the embedding `temb` [R, T]."""
        hidden_states, skips = self._go_down(hidden_states, temb, encoder_hidden_states)
        for block in self.model.up_blocks:
            hidden_states = self._go_up(block, hidden_states, skips, temb, encoder_hidden_states)
        return (out_sample(self.model, hidden_states),)

    def _go_down(
        self, hidden_states: Tensor, temb: Tensor, encoder_hidden_states: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """To the end of the block in the middle; and what the way up is to meet, in order of computation."""
        model = self.model
        skips = [hidden_states]
        for block in model.down_blocks:
            prompt = _prompt_of(block, encoder_hidden_states)
            hidden_states, outputs = block(hidden_states=hidden_states, temb=temb, **prompt)
            skips += outputs
        if model.mid_block is not None:  # pruned models leave it out: BK-SDM-Small, tiny-sd
            prompt = _prompt_of(model.mid_block, encoder_hidden_states)
            hidden_states = model.mid_block(hidden_states, temb, **prompt)
        return hidden_states, skips

    def _go_up(
        self,
        block: Any,
        hidden_states: Tensor,
        skips: list[Tensor],
        temb: Tensor,
        encoder_hidden_states: Tensor,
    ) -> Tensor:
        """Up one level, taking what it meets from `skips`.

        The model's own forward chooses by the size of `sample` whether to hand sizes to the upsamplers, which
        a trace would freeze. Here each level always goes up to the size of the level it meets.
        """
        taken = [skips.pop() for _ in block.resnets]
        up: Tensor = block(
            hidden_states=hidden_states,
            temb=temb,
            res_hidden_states_tuple=tuple(reversed(taken)),
            upsample_size=skips[-1].shape[2:] if skips else None,
            **_prompt_of(block, encoder_hidden_states),
        )
        return up

    @staticmethod
    def reference(
        model: UNet2DConditionModel,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        timestep_cond: Tensor | None = None,
        image_latents: Tensor | None = None,
        **added: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run the model's own forward. added: text_embeds and time_ids."""
        outputs: tuple[Tensor, ...] = model(
            with_channels(sample, image_latents),
            timestep,
            encoder_hidden_states,
            timestep_cond=timestep_cond,
            added_cond_kwargs=added,
            return_dict=False,
        )
        return outputs


class VaeDecoderGraph(nn.Module):
    """latent_sample [B, C, h, w], already divided by the scaling factor -> sample [B, 3, 8h, 8w] in -1..1."""

    def __init__(self, model: AutoencoderKL) -> None:
        super().__init__()
        _replace_upsamplers(model)
        self.model = model

    def forward(self, latent_sample: Tensor) -> tuple[Tensor, ...]:
        """Decode the latents."""
        return self.reference(self.model, latent_sample)

    @staticmethod
    def reference(model: AutoencoderKL, latent_sample: Tensor) -> tuple[Tensor, ...]:
        """Run the model's own forward."""
        outputs: tuple[Tensor, ...] = model.decode(latent_sample, return_dict=False)
        return outputs


class VaeEncoderGraph(nn.Module):
    """sample [B, 3, H, W] in -1..1 -> latent_parameters [B, 2C, H/8, W/8]: mean, then log variance."""

    def __init__(self, model: AutoencoderKL) -> None:
        super().__init__()
        self.model = model

    def forward(self, sample: Tensor) -> tuple[Tensor, ...]:
        """Encode the pictures; the caller samples and scales."""
        return self.reference(self.model, sample)

    @staticmethod
    def reference(model: AutoencoderKL, sample: Tensor) -> tuple[Tensor, ...]:
        """Run the model's own forward."""
        return (model.encode(sample, return_dict=False)[0].parameters,)


class _Upsample(nn.Module):
    """Nearest-neighbour upsampling, then its convolution if any, without Upsample2D's branches on sizes."""

    def __init__(self, upsample: Upsample2D) -> None:
        super().__init__()
        self.conv = upsample.conv

    def forward(self, hidden_states: Tensor, output_size: torch.Size | None = None) -> Tensor:
        if output_size is None:
            hidden_states = F.interpolate(hidden_states, scale_factor=2.0, mode="nearest")
        else:
            hidden_states = F.interpolate(hidden_states, size=output_size, mode="nearest")
        if self.conv is not None:
            hidden_states = self.conv(hidden_states)
        return hidden_states


def _replace_upsamplers(model: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Upsample2D) and _is_plain(child):
                setattr(module, name, _Upsample(child))


def _is_plain(upsample: Upsample2D) -> bool:
    """Whether it interpolates, as those of all blocks of Stable Diffusion do, and has no norm."""
    return bool(
        upsample.interpolate
        and not upsample.use_conv_transpose
        and upsample.norm is None
        and upsample.name == "conv"
    )


def embed(
    model: UNet2DConditionModel,
    sample: Tensor,
    timestep: Tensor,
    encoder_hidden_states: Tensor | None,
    text_embeds: Tensor | None,
    time_ids: Tensor | None,
    timestep_cond: Tensor | None,
) -> Tensor:
    """What every residual layer is told: [R, T]."""
    temb: Tensor = model.time_embedding(model.get_time_embed(sample=sample, timestep=timestep), timestep_cond)
    if text_embeds is not None and time_ids is not None:
        # sines in float32 whatever the model's precision; the model's own forward joins them as they are,
        # and the exported graph would then hold a Concat of two types
        sizes = model.add_time_proj(time_ids.flatten()).reshape(time_ids.shape[0], -1)
        temb = temb + model.add_embedding(torch.cat([text_embeds, sizes.to(text_embeds.dtype)], dim=-1))
    elif model.config["addition_embed_type"] == "text":
        temb = temb + model.add_embedding(encoder_hidden_states)
    if model.time_embed_act is not None:
        temb = model.time_embed_act(temb)
    return temb


def project_prompt(model: UNet2DConditionModel, encoder_hidden_states: Tensor) -> Tensor:
    """Encoder hidden states in the width of the cross attentions: [R, L, D']."""
    if model.encoder_hid_proj is None:
        return encoder_hidden_states
    projected: Tensor = model.encoder_hid_proj(encoder_hidden_states)
    return projected


def first_layer(model: UNet2DConditionModel, sample: Tensor, image_latents: Tensor | None) -> Tensor:
    """What conv_in gives for all channels that the U-Net sees."""
    sample = with_channels(sample, image_latents)
    if model.config["center_input_sample"]:
        sample = 2 * sample - 1
    hidden_states: Tensor = model.conv_in(sample)
    return hidden_states


def out_sample(model: UNet2DConditionModel, hidden_states: Tensor) -> Tensor:
    """From what the last layer gives to the prediction."""
    if model.conv_norm_out is not None:
        hidden_states = model.conv_act(model.conv_norm_out(hidden_states))
    prediction: Tensor = model.conv_out(hidden_states)
    return prediction


def with_channels(sample: Tensor, image_latents: Tensor | None) -> Tensor:
    """All channels that the U-Net sees."""
    return sample if image_latents is None else torch.cat([sample, image_latents], dim=1)


def _prompt_of(block: nn.Module, encoder_hidden_states: Tensor) -> dict[str, Tensor]:
    if getattr(block, "has_cross_attention", False):
        return {"encoder_hidden_states": encoder_hidden_states}
    return {}
