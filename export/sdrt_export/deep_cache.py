"""A U-Net in two graphs, the second of which leaves out all but its ends (DeepCache).

Deep features change little from one evaluation to the next (Ma, Fang, Wang 2023,
https://arxiv.org/abs/2312.00858). So the full graph gives them beside its prediction, and the shallow one
takes them and does not compute them. What it computes is branch 0 of the authors' implementation: conv_in,
whose output is the skip of the last layer on the way up, that layer, and what follows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from .configs import prompt_width
from .modules import UNetGraph, embed, first_layer, out_sample, project_prompt


def shallow_takes_prompt(unet: Mapping[str, Any]) -> bool:
    """Whether the shallow graph of a U-Net, by its config, takes the prompt.

    The last blocks that configs may name are a list of residual layers, some with transformers behind them.
    """
    attends: bool = unet["up_block_types"][-1] == "CrossAttnUpBlock2D"
    return attends or bool(unet["addition_embed_type"] == "text")


class DeepUNetGraph(UNetGraph):
    """As UNetGraph, with what its last layer is given as well: deep_features [R, C', h, w]."""

    def _predict(
        self, hidden_states: Tensor, temb: Tensor, encoder_hidden_states: Tensor
    ) -> tuple[Tensor, ...]:
        hidden_states, skips = self._go_down(hidden_states, temb, encoder_hidden_states)
        *blocks, last = self.model.up_blocks
        for block in blocks:
            hidden_states = self._go_up(block, hidden_states, skips, temb, encoder_hidden_states)
        for index in range(len(last.resnets) - 1):
            hidden_states = _layer(last, index, hidden_states, skips.pop(), temb, encoder_hidden_states)
        (skip,) = skips
        predicted_from = _layer(last, -1, hidden_states, skip, temb, encoder_hidden_states)
        return out_sample(self.model, predicted_from), hidden_states

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
        """Run the model's own forward, and look at what its last layer takes."""
        taken: list[Tensor] = []

        def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            taken.append(given[0])

        told = (timestep_cond, image_latents)
        hook = model.up_blocks[-1].resnets[-1].register_forward_pre_hook(look)
        try:
            outputs = UNetGraph.reference(model, sample, timestep, encoder_hidden_states, *told, **added)
        finally:
            hook.remove()
        return *outputs, taken[0][:, : _deep_channels(model)]


class ShallowUNetGraph(nn.Module):
    """What UNetGraph would predict if its deep features had not changed: out_sample [R, C, h, w].

    deep_features: as DeepUNetGraph gives them, [R, C', h, w]; the rest as UNetGraph takes it, without
    encoder_hidden_states if nothing in it depends on them.
    """

    def __init__(self, model: UNet2DConditionModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor | None = None,
        text_embeds: Tensor | None = None,
        time_ids: Tensor | None = None,
        timestep_cond: Tensor | None = None,
        image_latents: Tensor | None = None,
        *,
        deep_features: Tensor,
    ) -> tuple[Tensor]:
        """Predict once per row."""
        model = self.model
        temb = embed(model, sample, timestep, encoder_hidden_states, text_embeds, time_ids, timestep_cond)
        skip = first_layer(model, sample, image_latents)
        prompt = None if encoder_hidden_states is None else project_prompt(model, encoder_hidden_states)
        last = model.up_blocks[-1]
        return (out_sample(model, _layer(last, -1, deep_features, skip, temb, prompt)),)

    @staticmethod
    def reference(
        model: UNet2DConditionModel,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *,
        deep_features: Tensor,
        **told: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run the model's own forward, with these deep features put in before its last layer."""
        if encoder_hidden_states is None:  # of what is computed from it nothing is left
            encoder_hidden_states = torch.zeros(len(sample), 1, prompt_width(model.config))

        def put_in(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            hidden_states, *rest = given
            return torch.cat([deep_features, hidden_states[:, _deep_channels(model) :]], dim=1), *rest

        hook = model.up_blocks[-1].resnets[-1].register_forward_pre_hook(put_in)
        try:
            return UNetGraph.reference(model, sample, timestep, encoder_hidden_states, **told)
        finally:
            hook.remove()


def _deep_channels(model: UNet2DConditionModel) -> int:
    """Channels of the last layer's input that are not those of the skip."""
    channels: int = model.up_blocks[-1].resnets[-1].in_channels - model.conv_in.out_channels
    return channels


def _layer(
    block: Any,  # UpBlock2D, or CrossAttnUpBlock2D
    index: int,
    hidden_states: Tensor,
    skip: Tensor,
    temb: Tensor,
    encoder_hidden_states: Tensor | None,
) -> Tensor:
    """One layer on the way up."""
    hidden_states = block.resnets[index](torch.cat([hidden_states, skip], dim=1), temb)
    if getattr(block, "has_cross_attention", False):
        hidden_states = block.attentions[index](hidden_states, encoder_hidden_states, return_dict=False)[0]
    return hidden_states
