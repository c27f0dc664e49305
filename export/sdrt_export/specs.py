"""The graphs of a bundle: names, axes, and what to feed them for a trial.

Names are those of the optimum ONNX pipelines, which read the bundle too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from sdrt.manifest import GraphName, TextEncoderName, TextSettings

from .configs import Configs, prompt_width
from .deep_cache import DeepUNetGraph, ShallowUNetGraph, shallow_takes_prompt
from .modules import (
    TextEncoderGraph,
    TextEncoderStatesGraph,
    UNetGraph,
    VaeDecoderGraph,
    VaeEncoderGraph,
)

Component = Literal[TextEncoderName, "unet", "vae"]
Axes = tuple[int | str, ...]  # a number is fixed, a name is free
GraphModule = (
    type[TextEncoderGraph]
    | type[TextEncoderStatesGraph]
    | type[UNetGraph]
    | type[DeepUNetGraph]
    | type[ShallowUNetGraph]
    | type[VaeDecoderGraph]
    | type[VaeEncoderGraph]
)
MODELS: dict[Component, Any] = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
}


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """One graph: the component it is cut from, its module, and the axes of its inputs and outputs.

    unit: of height and width, in latent pixels; 8 where they count image pixels.
    beside_plain: a graph of the first output alone goes beside it.
    """

    name: GraphName
    component: Component
    module: GraphModule
    inputs: Mapping[str, Axes]
    outputs: Mapping[str, Axes]
    unit: int = 1
    tokens: tuple[int, int] = (0, 0)  # size of the vocabulary, end token
    beside_plain: bool = False

    def random_inputs(
        self, batch: int, height: int, width: int, sequence: int, seed: int
    ) -> dict[str, Tensor]:
        """Float32 (and int64) inputs for latents of height x width and a prompt of `sequence` tokens.

        The same for the same seed.
        """
        generator = torch.Generator().manual_seed(seed)
        sizes = {"batch": batch, "rows": batch, "sequence": sequence}
        sizes |= {"height": height * self.unit, "width": width * self.unit}
        inputs = {}
        for name, axes in self.inputs.items():
            shape = [sizes[axis] if isinstance(axis, str) else axis for axis in axes]
            if name == "input_ids":
                vocabulary, end = self.tokens
                inputs[name] = torch.randint(vocabulary, shape, generator=generator)
                inputs[name][:, shape[1] // 2 :] = end
            elif name == "timestep":
                inputs[name] = torch.rand(shape, generator=generator) * 999
            elif name == "time_ids":
                inputs[name] = torch.randint(1024, shape, generator=generator).float()
            else:
                inputs[name] = torch.randn(shape, generator=generator)
        return inputs

    def reference(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the model itself gives, by output name."""
        with torch.inference_mode():
            outputs = self.module.reference(model, **inputs)
        return dict(zip(self.outputs, outputs, strict=True))


def graph_specs(configs: Configs, *, deep_cache: bool = False) -> tuple[GraphSpec, ...]:
    """Specs of all graphs, in the order they are exported. deep_cache: the U-Net in two graphs.

    Raises ExportError if it cannot be.
    """
    channels, scale = configs.vae_settings.latent_channels, configs.vae_settings.scale_factor
    latents: Axes = ("batch", channels, "height", "width")
    pictures: Axes = ("batch", 3, "height", "width")
    unet = _unet(configs, latents)
    return (
        *(_text_encoder(configs, text) for text in configs.text),
        *(_cut(unet, configs) if deep_cache else (unet,)),
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


def _text_encoder(configs: Configs, text: TextSettings) -> GraphSpec:
    config = configs.text_encoders[text.graph]
    states: Axes = ("batch", text.max_length, config["hidden_size"])
    outputs: dict[str, Axes] = {"last_hidden_state": states}
    if text.graph == "text_encoder_2":
        outputs = {"text_embeds": ("batch", config["projection_dim"]), **outputs}
    else:
        outputs |= {"pooler_output": ("batch", config["hidden_size"])}
    all_states = configs.conditioning.time_ids is not None
    if all_states:
        outputs |= {f"hidden_states.{k}": states for k in range(config["num_hidden_layers"] + 1)}
    else:
        outputs |= dict.fromkeys(text.clip_skip_outputs[1:], states)
    return GraphSpec(
        name=text.graph,
        component=text.graph,
        module=TextEncoderStatesGraph if all_states else TextEncoderGraph,
        inputs={"input_ids": ("batch", text.max_length)},
        outputs=outputs,
        tokens=(config["vocab_size"], text.eos_token_id),
    )


def _unet(configs: Configs, latents: Axes) -> GraphSpec:
    inputs: dict[str, Axes] = {
        "sample": latents,
        "timestep": ("rows",),
        "encoder_hidden_states": ("batch", "sequence", prompt_width(configs.unet)),
    }
    time_ids = configs.conditioning.time_ids
    if time_ids is not None:
        pooled = configs.text_encoders["text_encoder_2"]["projection_dim"]
        inputs |= {"text_embeds": ("batch", pooled), "time_ids": ("batch", 6 if time_ids == "sizes" else 5)}
    if configs.conditioning.guidance_embedding is not None:
        inputs["timestep_cond"] = ("batch", configs.conditioning.guidance_embedding)
    if configs.conditioning.picture is not None:
        channels = configs.unet["in_channels"] - configs.vae_settings.latent_channels
        inputs["image_latents"] = ("batch", channels, "height", "width")
    return GraphSpec(
        name="unet",
        component="unet",
        module=UNetGraph,
        inputs=inputs,
        outputs={"out_sample": latents},
    )


def _cut(unet: GraphSpec, configs: Configs) -> tuple[GraphSpec, GraphSpec]:
    """The full U-Net that gives its deep features, and the shallow one that takes them."""
    deep: Axes = ("batch", configs.unet["block_out_channels"][0], "height", "width")
    inputs = {**unet.inputs, "deep_features": deep}
    if not shallow_takes_prompt(configs.unet):
        del inputs["encoder_hidden_states"]
    return (
        replace(
            unet, module=DeepUNetGraph, outputs={**unet.outputs, "deep_features": deep}, beside_plain=True
        ),
        replace(unet, name="unet_shallow", module=ShallowUNetGraph, inputs=inputs),
    )
