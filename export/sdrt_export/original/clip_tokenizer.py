"""The tokenizer of every Stable Diffusion 1, 2 and XL: CLIP's, whose vocabulary follows from its merges."""

from __future__ import annotations

import gzip
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

MERGES_FILE = Path(__file__).parent / "templates" / "clip_merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
WINDOW = 77


def clip_tokenizer(pad_token: str) -> CLIPTokenizer:
    """Make the tokenizer: 49,408 tokens, window 77.

    Tokens are the bytes, the bytes at the end of a word, the merges in their order, start and end.
    pad_token: `<|endoftext|>` for CLIP ViT-L/14; `!`, token 0, for OpenCLIP's encoders. As it is then a
    special token, "cat!" ends in 0 and not in 256, as with the tokenizers that diffusers ships.
    Source: Radford et al. 2021, https://github.com/openai/CLIP.
    """
    lines = gzip.decompress(MERGES_FILE.read_bytes()).decode().splitlines()
    merges = [(first, second) for first, second in map(str.split, lines)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *map("".join, merges), START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(
        vocab=vocabulary, merges=merges, model_max_length=WINDOW, pad_token=pad_token, unk_token=END
    )
