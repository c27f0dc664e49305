"""The four graphs of a Stable Diffusion 1 bundle: names, axes, and what to feed them for a trial.

Names are those of the optimum ONNX pipelines, which read the bundle too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sdrt.manifest import GraphName

from .configs import Configs
from .modules import TextEncoderGraph, UNetGraph, VaeDecoderGraph, VaeEncoderGraph

Component = Literal["text_encoder", "unet", "vae"]
Axes = tuple[int | str, ...]  # a number is fixed, a name is free
GraphModule = type[TextEncoderGraph] | type[UNetGraph] | type[VaeDecoderGraph] | type[VaeEncoderGraph]


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """One graph: the component it is cut from, its module, and the axes of its inputs and outputs.

    unit: of height and width, in latent pixels; 8 where they count image pixels.
    """

    name: GraphName
    component: Component
    module: GraphModule
    inputs: Mapping[str, Axes]
    outputs: Mapping[str, Axes]
    unit: int = 1
    tokens: tuple[int, int] = (0, 0)  # size of the vocabulary, end token

    def random_inputs(self, batch: int, height: int, width: int, seed: int) -> dict[str, Tensor]:
        """Float32 (and int64) inputs for latents of height x width, the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        sizes = {"batch": batch, "rows": batch, "height": height * self.unit, "width": width * self.unit}
        inputs = {}
        for name, axes in self.inputs.items():
            shape = [sizes[axis] if isinstance(axis, str) else axis for axis in axes]
            if name == "input_ids":
                vocabulary, end = self.tokens
                inputs[name] = torch.randint(vocabulary, shape, generator=generator)
                inputs[name][:, shape[1] // 2 :] = end
            elif name == "timestep":
                inputs[name] = torch.rand(shape, generator=generator) * 999
            else:
                inputs[name] = torch.randn(shape, generator=generator)
        return inputs

    def reference(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the model itself gives, by output name."""
        with torch.inference_mode():
            outputs = self.module.reference(model, *inputs.values())
        return dict(zip(self.outputs, outputs, strict=True))


def graph_specs(configs: Configs) -> tuple[GraphSpec, ...]:
    """Specs of all four graphs, in the order they are exported."""
    length, width = configs.text.max_length, configs.text_encoder["hidden_size"]
    channels, scale = configs.vae_settings.latent_channels, configs.vae_settings.scale_factor
    latents: Axes = ("batch", channels, "height", "width")
    pictures: Axes = ("batch", 3, "height", "width")
    return (
        GraphSpec(
            name="text_encoder",
            component="text_encoder",
            module=TextEncoderGraph,
            inputs={"input_ids": ("batch", length)},
            outputs={"last_hidden_state": ("batch", length, width), "pooler_output": ("batch", width)},
            tokens=(configs.text_encoder["vocab_size"], configs.text.eos_token_id),
        ),
        GraphSpec(
            name="unet",
            component="unet",
            module=UNetGraph,
            inputs={
                "sample": latents,
                "timestep": ("rows",),
                "encoder_hidden_states": ("batch", length, width),
            },
            outputs={"out_sample": latents},
        ),
        GraphSpec(
            name="vae_decoder",
            component="vae",
            module=VaeDecoderGraph,
            inputs={"latent_sample": latents},
            outputs={"sample": ("batch", 3, "image_height", "image_width")},
        ),
        GraphSpec(
            name="vae_encoder",
            component="vae",
            module=VaeEncoderGraph,
            inputs={"sample": pictures},
            outputs={"latent_parameters": ("batch", 2 * channels, "latent_height", "latent_width")},
            unit=scale,
        ),
    )
