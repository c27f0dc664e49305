"""The runtime's tokens of odd prompts are those of transformers, with the whole vocabulary of CLIP."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from odd_prompts import odd_prompts
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

import sdrt_export
from sdrt.tokenizer import PromptTokenizer
from sdrt_export.tokenizer import load_tokenizer, save_tokenizer

MERGES = Path(sdrt_export.__file__).parent / "original" / "templates" / "clip_merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer folder of Stable Diffusion 1 as it was published, without a tokenizer.json."""
    folder = tmp_path_factory.mktemp("published")
    merges = gzip.decompress(MERGES.read_bytes()).decode().splitlines()
    # the order of CLIP's vocabulary: printable bytes first, then the others
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    assert sorted(alphabet) == sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *(m.replace(" ", "") for m in merges)]
    vocabulary = {token: index for index, token in enumerate([*tokens, START, END])}
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**special, "model_max_length": 77, "do_lower_case": True, "add_prefix_space": False})
    )
    return folder


@pytest.fixture(scope="module")
def ours(published: Path, tmp_path_factory: pytest.TempPathFactory) -> PromptTokenizer:
    """What the runtime reads of a bundle that was exported with it."""
    folder = tmp_path_factory.mktemp("bundle")
    exported = load_tokenizer(published)
    save_tokenizer(exported, folder)
    return PromptTokenizer(folder / "tokenizer.json")


@pytest.fixture(scope="module")
def theirs(published: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(published, local_files_only=True)


def test_a_thousand_odd_prompts(ours: PromptTokenizer, theirs: CLIPTokenizer) -> None:
    words = [token.removesuffix("</w>") for token in sorted(theirs.get_vocab())]
    prompts = odd_prompts(1000, words)
    assert len(set(prompts)) > 980
    tokens = {prompt: ours.tokens(prompt) for prompt in prompts}
    expected = {prompt: theirs(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts}
    assert {prompt: ids for prompt, ids in tokens.items() if ids != expected[prompt]} == {}
    assert len({token for ids in tokens.values() for token in ids}) > 2500


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        # as published: OpenAI's CLIP, and the documentation of transformers
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("a photo of a dog", [320, 1125, 539, 320, 1929]),
        ("hello world!", [3306, 1002, 256]),
    ],
)
def test_published_tokens(ours: PromptTokenizer, prompt: str, ids: list[int]) -> None:
    """That the vocabulary is CLIP's, in its order."""
    assert ours.tokens(prompt) == ids
