"""A CLIP tokenizer of our own: lower-casing byte-level BPE, trained on the captions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from .captions import DISLIKES, FILLERS, caption
from .scenes import SceneSampler
from .vocabulary import COLOURS

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77
# CLIP's own split: contractions, words, single digits, runs of anything else.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def learn_merges(captions: Iterable[str], merges: int) -> list[tuple[str, str]]:
    """Learn byte-pair merges from captions; `</w>` marks the end of a word, as in CLIP."""
    from tokenizers import Regex

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    letters = len(set("".join(captions := list(captions)).lower()))
    trainer = trainers.BpeTrainer(
        vocab_size=2 * letters + merges, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(captions, trainer)
    learnt = json.loads(learner.to_str())["model"]["merges"]
    return [(left, right) for left, right in learnt][:merges]


def build_vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    """CLIP's order: every byte, every byte at the end of a word, the merges, the two special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    tokens += [left + right for left, right in merges] + [START, END]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}


def build_tokenizer(seed: int = 0, captions: int = 20_000, merges: int = 400) -> CLIPTokenizer:
    """Train the tokenizer of the demo model. Any text can be encoded: every byte is a token."""
    rng = np.random.default_rng(seed)
    sampler = SceneSampler(rng)
    texts = [caption(sampler(1 + index % 2), rng) for index in range(captions)]
    texts += [" ".join((*FILLERS, *DISLIKES, *COLOURS))] * 50
    learnt = learn_merges(texts, merges)
    return CLIPTokenizer(
        vocab=build_vocabulary(learnt),
        merges=learnt,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=MAX_LENGTH,
    )


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Save the classic pair of files, vocab.json and merges.txt, beside tokenizer.json."""
    tokenizer.save_pretrained(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(
        json.dumps(model["vocab"], ensure_ascii=False) + "\n", encoding="utf-8"
    )
    lines = [f"{left} {right}" for left, right in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n", encoding="utf-8")
