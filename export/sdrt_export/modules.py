"""What each graph computes, as a module that torch.export can trace for every size.

Each module holds the model as `model`, so that a parameter's name in the graph is its name in the checkpoint
behind the prefix `model.`. `reference` is the model's own forward, which the graph is measured against.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from transformers import CLIPTextModel


class TextEncoderGraph(nn.Module):
    """input_ids [B, max_length] int64 -> last_hidden_state [B, max_length, D], pooler_output [B, D]."""

    def __init__(self, model: CLIPTextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        """Encode the tokens; pooler_output is the hidden state at the first end token."""
        return self.reference(self.model, input_ids)

    @staticmethod
    def reference(model: CLIPTextModel, input_ids: Tensor) -> tuple[Tensor, ...]:
        """Run the model's own forward."""
        output = model(input_ids=input_ids)
        return output.last_hidden_state, output.pooler_output


class UNetGraph(nn.Module):
    """Noisy latents [R, C, h, w], timestep [R] float32, prompt [R, L, D] -> out_sample [R, C, h, w]."""

    def __init__(self, model: UNet2DConditionModel) -> None:
        super().__init__()
        _replace_upsamplers(model)
        self.model = model

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> tuple[Tensor]:
        """Predict once per row.

        The model's own forward chooses by the size of `sample` whether to hand sizes to the upsamplers, which
        a trace would freeze. Here each level always goes up to the size of the level it meets.
        """
        model = self.model
        temb = model.time_embedding(model.get_time_embed(sample=sample, timestep=timestep))
        hidden_states = model.conv_in(sample)
        skips = [hidden_states]
        for block in model.down_blocks:
            prompt = _prompt_of(block, encoder_hidden_states)
            hidden_states, outputs = block(hidden_states=hidden_states, temb=temb, **prompt)
            skips += outputs
        hidden_states = model.mid_block(
            hidden_states, temb, **_prompt_of(model.mid_block, encoder_hidden_states)
        )
        for block in model.up_blocks:
            taken = [skips.pop() for _ in block.resnets]
            hidden_states = block(
                hidden_states=hidden_states,
                temb=temb,
                res_hidden_states_tuple=tuple(reversed(taken)),
                upsample_size=skips[-1].shape[2:] if skips else None,
                **_prompt_of(block, encoder_hidden_states),
            )
        return (model.conv_out(model.conv_act(model.conv_norm_out(hidden_states))),)

    @staticmethod
    def reference(
        model: UNet2DConditionModel, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor
    ) -> tuple[Tensor, ...]:
        """Run the model's own forward."""
        outputs: tuple[Tensor, ...] = model(sample, timestep, encoder_hidden_states, return_dict=False)
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
    """Nearest-neighbour upsampling and a convolution, without Upsample2D's branches on the input's size."""

    def __init__(self, upsample: Upsample2D) -> None:
        super().__init__()
        self.conv = upsample.conv

    def forward(self, hidden_states: Tensor, output_size: torch.Size | None = None) -> Tensor:
        if output_size is None:
            hidden_states = F.interpolate(hidden_states, scale_factor=2.0, mode="nearest")
        else:
            hidden_states = F.interpolate(hidden_states, size=output_size, mode="nearest")
        output: Tensor = self.conv(hidden_states)
        return output


def _replace_upsamplers(model: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Upsample2D):
                setattr(module, name, _Upsample(child))


def _prompt_of(block: nn.Module, encoder_hidden_states: Tensor) -> dict[str, Tensor]:
    if getattr(block, "has_cross_attention", False):
        return {"encoder_hidden_states": encoder_hidden_states}
    return {}
