"""The tokenizer that every Stable Diffusion model has, which original files do not bring along."""

from __future__ import annotations

import gzip
from pathlib import Path

from transformers import CLIPTokenizer

MERGES = Path(__file__).parent / "templates" / "clip_merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"


def clip_tokenizer(pad_token: str) -> CLIPTokenizer:
    """OpenAI's tokenizer of CLIP with its 49,408 tokens and a window of 77."""
    pairs = [(first, second) for first, second in map(str.split, _merges())]
    letters = _alphabet()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in pairs)]
    vocabulary = {token: number for number, token in enumerate([*tokens, START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=77, pad_token=pad_token)


def _merges() -> list[str]:
    with gzip.open(MERGES, "rt", encoding="utf-8") as file:
        return file.read().splitlines()


def _alphabet() -> list[str]:
    """A letter for each byte, in the vocabulary's order: the visible ones, then the rest from U+0100."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [*map(chr, visible), *(chr(0x100 + number) for number in range(0x100 - len(visible)))]
