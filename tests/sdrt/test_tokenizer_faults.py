"""Tokenizer files that are JSON and yet no tokenizer, or one for part of the texts only."""

from __future__ import annotations

import json

import pytest

from sdrt.bundle import DEMO
from sdrt.errors import BundleError, InputError
from sdrt.tokenizer import PromptTokenizer

FILE = DEMO / "tokenizer" / "tokenizer.json"


@pytest.fixture
def changed(tmp_path):
    """The demo's tokenizer with other fields."""

    def changed(**fields):
        path = tmp_path / "x.json"
        path.write_text(json.dumps(json.loads(FILE.read_text()) | fields))
        return path

    return changed


@pytest.mark.parametrize(
    "fields",
    [{"model": {}}, {"model": None}, {"version": "9"}, {"added_tokens": [{"id": -1}]}, {"normalizer": 7}],
)
def test_what_cannot_be_opened(changed, fields):
    with pytest.raises(
        BundleError, match=r"x\.json is not a tokenizer(, or a damaged one)?: .+; export"
    ) as error:
        PromptTokenizer(changed(**fields))
    assert "\n" not in str(error.value)


def test_what_shows_with_a_text_that_needs_it(changed):
    words = {"type": "BPE", "vocab": {"a</w>": 0}, "merges": [], "unk_token": "absent"}
    tokenizer = PromptTokenizer(changed(model=words, added_tokens=[], post_processor=None))
    assert tokenizer.tokens("") == []
    with pytest.raises(BundleError, match=r"x\.json is not a tokenizer, or a damaged one: .*absent|UNK"):
        tokenizer.tokens("b")
    with pytest.raises(BundleError, match=r"x\.json"):
        tokenizer.add_word("<new>", 1, called="e.pt")


def test_whatever_the_library_raises_is_an_error_and_an_interrupt_is_not(monkeypatch):
    panic = type("PanicException", (BaseException,), {})
    tokenizer = PromptTokenizer(FILE)
    for raised, expected in (
        (Exception("Unk token\nnot found"), BundleError),
        (panic("at line 1\nof x.rs"), BundleError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):

        class Broken:
            def encode(self, *_, raised=raised, **__):
                raise raised

        monkeypatch.setattr(tokenizer, "_tokenizer", Broken())
        with pytest.raises(expected) as error:
            tokenizer.tokens("a")
        assert "\n" not in str(error.value)


def test_a_tokenizer_without_a_normalizer_takes_words(changed):
    tokenizer = PromptTokenizer(changed(normalizer=None))
    assert len(tokenizer.add_word("<new>", 2, called="e.pt")) == 2
    with pytest.raises(InputError, match="already"):
        tokenizer.add_word("<new>", 1, called="e.pt")
