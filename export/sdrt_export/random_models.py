"""True architectures with seeded random weights: for whatever needs full size but not a picture.

Weights are normal with variance 1 / fan-in, so that activations keep their size through the layers: the
largest in the U-Net of Stable Diffusion 1.5 is about 20, far below FP16's 65504.
"""

from __future__ import annotations

import zlib

import torch
from tokenizers import pre_tokenizers
from torch import Tensor, nn
from transformers import CLIPTokenizer

from .architectures import Architecture
from .checkpoint import Checkpoint
from .configs import TEXT_ENCODERS, TOKENIZERS, read_configs
from .parameters import build, count
from .specs import Component

START, END = "<|startoftext|>", "<|endoftext|>"
# The networks' outputs would have a standard deviation of 0.6; noise and pictures have about 1.
LAST_LAYER_GAIN = 1.7


def open_random(source: str, architecture: Architecture) -> Checkpoint:
    """Open a random model; weights are made when they are read."""
    raw = architecture.configs()
    text_encoders = {name: raw[name] for name in TEXT_ENCODERS if name in raw}
    tokenizers = {
        TOKENIZERS[name]: byte_tokenizer(config["bos_token_id"], config["eos_token_id"])
        for name, config in text_encoders.items()
    }
    configs = read_configs(
        index=architecture.index,
        text_encoders=text_encoders,
        unet=raw["unet"],
        vae=raw["vae"],
        scheduler=raw["scheduler"],
        tokenizers=tokenizers,
        overrides={},
    )
    return Checkpoint(
        source=source,
        fingerprint=source,
        configs=configs,
        tokenizers=tokenizers,
        parameters={component: count(build(configs, component)) for component in architecture.options},
        build=lambda component: build(configs, component),
        weights=lambda component: RandomWeights(build(configs, component), component),
    )


class RandomWeights:
    """Parameters of a seed, each drawn when it is asked for, in float32."""

    def __init__(self, model: nn.Module, component: Component, seed: int = 0) -> None:
        self._parameters = dict(model.named_parameters())
        self._seed = f"{component} {seed}"

    def __getitem__(self, name: str) -> Tensor:
        # of a name and not of an order, so that one can be drawn without the others
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self._seed} {name}".encode()))
        drawn = torch.empty(self.shape(name))
        if drawn.ndim > 1:
            gain = LAST_LAYER_GAIN if "conv_out" in name else 1.0
            return drawn.normal_(0.0, gain / drawn[0].numel() ** 0.5, generator=generator)
        return drawn.normal_(float(name.endswith("weight")), 0.02, generator=generator)

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a parameter."""
        return tuple(self._parameters[name].shape)


def byte_tokenizer(bos_token_id: int, eos_token_id: int) -> CLIPTokenizer:
    """A CLIP tokenizer whose 512 tokens are the bytes, inside a word and at its end; window 77."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    vocabulary |= {START: bos_token_id, END: eos_token_id}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
