"""Textual inversion at export: words that become part of the bundle."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from sdrt.added_words import add_words
from sdrt.manifest import TextSettings
from sdrt.textual_inversion import TABLE, Embedding, check_encoders, check_room, fitting

from .checkpoint import Checkpoint
from .configs import TOKENIZERS
from .parameters import Weights
from .specs import Component


def with_embeddings(checkpoint: Checkpoint, embeddings: Sequence[Embedding]) -> Checkpoint:
    """A checkpoint whose tokenizers and text encoders know the words of `embeddings` as well.

    The vectors are rounded to the type of the source's weights.
    Raises InputError if one is for another model, or its token exists already.
    """
    configs = checkpoint.configs
    for embedding in embeddings:
        check_encoders(embedding, list(configs.text_encoders))
    tokenizers = {name: copy.deepcopy(one) for name, one in checkpoint.tokenizers.items()}
    added: dict[Component, _Rows] = {
        text.graph: _add(embeddings, text, tokenizers[TOKENIZERS[text.graph]], checkpoint)
        for text in configs.text
    }
    text_encoders = {
        name: {**config, "vocab_size": added[name].count} for name, config in configs.text_encoders.items()
    }
    more = {component: len(rows.vectors) * rows.width for component, rows in added.items()}
    return replace(
        checkpoint,
        source=" + ".join([checkpoint.source, *(one.path.name for one in embeddings)]),
        fingerprint=" ".join([checkpoint.fingerprint, *(f"{one.token} {one.sha256}" for one in embeddings)]),
        configs=replace(configs, text_encoders=text_encoders),
        tokenizers=tokenizers,
        parameters={name: count + more.get(name, 0) for name, count in checkpoint.parameters.items()},
        build=_building(checkpoint.build, added),
        weights=_extending(checkpoint.weights, added),
    )


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """New rows of a table of token embeddings, and how many it has in all. width: of a row."""

    count: int
    width: int
    vectors: Mapping[int, Tensor]


def _add(
    embeddings: Sequence[Embedding], text: TextSettings, tokenizer: CLIPTokenizer, checkpoint: Checkpoint
) -> _Rows:
    config = checkpoint.configs.text_encoders[text.graph]
    check_room(embeddings, text)
    arrays = [fitting(one, text.graph, config["hidden_size"], "float32") for one in embeddings]
    words = [one.token for one in embeddings]
    vectors: dict[int, Tensor] = {}
    for one, array in zip(embeddings, arrays, strict=True):
        added = add_words(
            tokenizer.backend_tokenizer, one.token, one.count, called=str(one.path), reserved=words
        )
        tokenizer.add_tokens(added)
        ids = tokenizer.convert_tokens_to_ids([token.content for token in added])
        vectors |= dict(zip(ids, torch.from_numpy(array), strict=True))
    rows = max([config["vocab_size"] - 1, *vectors]) + 1
    return _Rows(count=rows, width=config["hidden_size"], vectors=vectors)


def _building(
    build: Callable[[Component], nn.Module], added: Mapping[Component, _Rows]
) -> Callable[[Component], nn.Module]:
    def built(component: Component) -> nn.Module:
        model: Any = build(component)
        if component in added:
            rows = added[component]
            table = nn.Embedding(rows.count, rows.width, device="meta").requires_grad_(False)
            model.set_input_embeddings(table)
        module: nn.Module = model
        return module

    return built


def _extending(
    weights: Callable[[Component], Weights], added: Mapping[Component, _Rows]
) -> Callable[[Component], Weights]:
    def extended(component: Component) -> Weights:
        own = weights(component)
        return _ExtendedWeights(own, added[component]) if component in added else own

    return extended


class _ExtendedWeights:
    """A text encoder's parameters; its table of token embeddings has more rows."""

    def __init__(self, weights: Weights, rows: _Rows) -> None:
        self._weights = weights
        self._rows = rows

    def __getitem__(self, name: str) -> Tensor:
        own = self._weights[name]
        if not name.endswith(TABLE):
            return own
        table = own.new_zeros(self.shape(name))
        table[: len(own)] = own
        for row, vector in self._rows.vectors.items():
            table[row] = vector.to(own.dtype)
        return table

    def __contains__(self, name: object) -> bool:
        return name in self._weights

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a parameter."""
        return (self._rows.count, self._rows.width) if name.endswith(TABLE) else self._weights.shape(name)
