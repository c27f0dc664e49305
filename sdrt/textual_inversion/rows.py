"""Words into one text encoder: tokens for its tokenizer, rows for its table of token embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from sdrt.backends import Array
from sdrt.errors import BundleError, InputError
from sdrt.manifest import TextEncoderName, TextSettings
from sdrt.onnx_initializers import read_initializers
from sdrt.textual_inversion.embedding import Embedding
from sdrt.tokenizer import PromptTokenizer

TABLE = "embeddings.token_embedding.weight"


def add_embeddings(
    embeddings: Sequence[Embedding],
    settings: TextSettings,
    tokenizer: PromptTokenizer,
    graph: Path,
    changed: Mapping[str, Array] = MappingProxyType({}),
) -> dict[str, Array]:
    """Add the words to `tokenizer`; returns what the graph must be loaded with, an initializer by its name.

    changed: initializers that LoRAs have changed, which may be the table.
    The vectors are rounded to the type in which the graph keeps its table: float16 in an FP16 bundle and with
    --half-weights.
    Raises InputError, before anything is added, if a vector is of another width than the text encoder, or
    if a word has more of them than its window; or for a token that exists already. BundleError if the graph
    has no table.
    """
    if not embeddings:
        return {}
    # CLIP with a projection has it one module deeper
    stored = next((one for name, one in read_initializers(graph).items() if name.endswith(TABLE)), None)
    if stored is None or len(stored.shape) != 2:
        raise BundleError(f"{graph} has no {TABLE} to add words to; export the bundle again")
    check_room(embeddings, settings)
    words = [embedding.token for embedding in embeddings]
    vectors = [fitting(embedding, settings.graph, stored.shape[1], stored.dtype) for embedding in embeddings]
    added = {
        row: vector
        for embedding, rows in zip(embeddings, vectors, strict=True)
        for row, vector in zip(
            tokenizer.add_word(embedding.token, embedding.count, called=str(embedding.path), reserved=words),
            rows,
            strict=True,
        )
    }
    old = changed[stored.name] if stored.name in changed else stored.read()
    table = np.zeros((max(len(old), max(added) + 1), old.shape[1]), old.dtype)
    table[: len(old)] = old
    for row, vector in added.items():
        table[row] = vector
    return {stored.name: table}


def check_room(embeddings: Sequence[Embedding], settings: TextSettings) -> None:
    """Raise InputError if a word has more vectors than a text window takes: they must not be parted."""
    room = settings.max_length - 2
    for one in embeddings:
        if one.count > room:
            raise InputError(f"{one.path} has {one.count} vectors, the model reads {room} tokens at a time")


def fitting(embedding: Embedding, encoder: TextEncoderName, width: int, dtype: str) -> Array:
    """The vectors [n, width] for a text encoder. Raises InputError if they are wider or leave `dtype`."""
    vectors = embedding.vectors[encoder]
    if vectors.shape[1] != width:
        raise InputError(
            f"{embedding.path} has vectors of width {vectors.shape[1]}, the {encoder} of this model has "
            f"{width}; it is for another model"
        )
    with np.errstate(over="ignore"):
        vectors = vectors.astype(dtype)
    if not np.isfinite(vectors).all():
        raise InputError(f"{embedding.path} has numbers beyond {dtype}, the type of this model's weights")
    return vectors
