"""Prompts to token ids, with the `tokenizers` library alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from sdrt.added_words import add_words, words_of_several_ids
from sdrt.errors import BundleError


class PromptTokenizer:
    """The tokenizer of a bundle."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(f"{path} is not a tokenizer: {error}; export the bundle again") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._words = words_of_several_ids(self._tokenizer)

    @property
    def comma_id(self) -> int | None:
        """The id of a comma as a word of its own, if there is one."""
        found: int | None = self._tokenizer.token_to_id(",</w>")
        return found

    @property
    def words(self) -> Mapping[int, tuple[int, ...]]:
        """Words that have several ids: the one that `tokens` gives -> all of them, in their order."""
        return self._words

    def add_word(self, token: str, ids: int, *, called: str, reserved: Collection[str] = ()) -> list[int]:
        """Make `token` a word of so many ids of its own; returns them. called: what messages call it.

        reserved: words that are added later. Raises InputError if the tokenizer has the word already.
        """
        added = add_words(self._tokenizer, token, ids, called=called, reserved=reserved)
        self._tokenizer.add_tokens(added)
        self._words = words_of_several_ids(self._tokenizer)
        return [id for one in added if (id := self._tokenizer.token_to_id(one.content)) is not None]

    def tokens(self, text: str) -> list[int]:
        """The ids of a text, without begin and end; one for each of `words`."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids
