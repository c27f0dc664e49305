"""The tokenizer behaves like CLIP's, and any text passes through it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from sdrt_export.demo.tokenizer import END, MAX_LENGTH, START, build_tokenizer, save_tokenizer

TEXTS = [
    "",
    "a large red circle on a blue background",
    "Größe, naïve 日本語 🙂 \x00\x07 ﷽",
    "don't   panic!!!  42",
    "word " * 200,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(build_tokenizer(captions=4000), folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(folder)


def test_words_of_the_captions_are_single_tokens(tokenizer: CLIPTokenizer) -> None:
    assert tokenizer.tokenize("A Purple STAR, left") == [
        "a</w>",
        "purple</w>",
        "star</w>",
        ",</w>",
        "left</w>",
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_becomes_77_known_tokens(tokenizer: CLIPTokenizer, text: str) -> None:
    tokens = tokenizer(text, padding="max_length", truncation=True).input_ids
    assert len(tokens) == MAX_LENGTH
    assert tokens[0] == tokenizer.convert_tokens_to_ids(START)
    assert tokens[-1] == tokenizer.pad_token_id == tokenizer.convert_tokens_to_ids(END)
    # The end token stands for unknown ones too, so before the padding it may not occur.
    length = min(len(tokenizer(text).input_ids), MAX_LENGTH) - 1
    assert END not in tokenizer.convert_ids_to_tokens(tokens[:length])


def test_other_scripts_survive_the_round_trip(tokenizer: CLIPTokenizer) -> None:
    tokens = tokenizer("日本語 größe", add_special_tokens=False).input_ids
    assert tokenizer.decode(tokens).strip() == "日本語 größe"


@pytest.mark.parametrize("text", TEXTS)
def test_the_classic_files_and_tokenizer_json_agree(folder: Path, tmp_path: Path, text: str) -> None:
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    classic = CLIPTokenizer.from_pretrained(tmp_path)
    assert classic(text).input_ids == Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
