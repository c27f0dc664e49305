"""The bundle's tokenizer.json, read by the tokenizers library alone, against transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from sdrt.errors import ExportError
from sdrt_export.random_models import byte_tokenizer
from sdrt_export.tokenizer import load_tokenizer, save_tokenizer, text_settings

PROMPTS = [
    "",
    " ",
    "the red cab",
    "  The\tRED \n\n cab  ",
    "don't we'll I'D you've",
    "a1234 v2.0, 1/2",
    "cafe\u0301 = café",
    "ÅNGSTRÖM straße ΣΑΣ İstanbul",
    "日本語のプロンプト",
    "🦊🏽‍♀️ fox",
    "مرحبا بالعالم",
    "((masterpiece)), [x:1.3], <lora:a>",
    "<|startoftext|>the<|endoftext|> red",
    "zero\u200bwidth \u00a0nbsp \u3000wide",
    "nul\x00byte \x7f",
    "the " * 300,
    "-" * 500,
]


@pytest.mark.parametrize("which", ["merges", "bytes"])
def test_ids_are_those_of_transformers(tiny: Path, tmp_path: Path, which: str) -> None:
    source = load_tokenizer(tiny / "tokenizer") if which == "merges" else byte_tokenizer(49406, 49407)
    save_tokenizer(source, tmp_path)
    alone = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for prompt in PROMPTS:
        assert alone.encode(prompt).ids == source(prompt)["input_ids"], repr(prompt)


def test_transformers_reads_it_back(tiny: Path, tmp_path: Path) -> None:
    source = load_tokenizer(tiny / "tokenizer")
    save_tokenizer(source, tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again.model_max_length == 77
    assert again.pad_token_id == source.pad_token_id
    assert [again(prompt)["input_ids"] for prompt in PROMPTS] == [source(p)["input_ids"] for p in PROMPTS]


def test_classic_files_alone_are_enough(tiny: Path, tmp_path: Path) -> None:
    source = load_tokenizer(tiny / "tokenizer")
    save_tokenizer(source, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    classic = load_tokenizer(tmp_path)
    assert [classic(prompt)["input_ids"] for prompt in PROMPTS] == [source(p)["input_ids"] for p in PROMPTS]
    save_tokenizer(classic, tmp_path / "made")
    alone = Tokenizer.from_file(str(tmp_path / "made" / "tokenizer.json"))
    assert [alone.encode(prompt).ids for prompt in PROMPTS] == [source(p)["input_ids"] for p in PROMPTS]


def test_a_tokenizer_that_was_used_leaves_no_state(tiny: Path, tmp_path: Path) -> None:
    source = load_tokenizer(tiny / "tokenizer")
    source("the red cab", truncation=True, padding="max_length", max_length=8)
    save_tokenizer(source, tmp_path)
    fields = json.loads((tmp_path / "tokenizer.json").read_text())
    assert fields["truncation"] is None and fields["padding"] is None
    special = {token["content"] for token in fields["added_tokens"] if token["special"]}
    assert special == {"<|startoftext|>", "<|endoftext|>"}


def test_special_tokens_reach_the_settings() -> None:
    settings = text_settings(byte_tokenizer(49406, 49407), positions=77, vocabulary=49408)
    assert (settings.bos_token_id, settings.eos_token_id, settings.pad_token_id) == (49406, 49407, 49407)
    assert settings.max_length == 77


def test_tokens_beyond_the_text_encoder_are_refused() -> None:
    with pytest.raises(ExportError, match="largest token is 49407 and the text encoder knows 512"):
        text_settings(byte_tokenizer(49406, 49407), positions=77, vocabulary=512)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no vocab\.json and no merges\.txt"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ExportError, match="cannot read the tokenizer"):
        load_tokenizer(tmp_path)
