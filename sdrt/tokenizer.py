"""Prompts to token ids, with the `tokenizers` library alone."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from sdrt.added_words import add_words, words_of_several_ids
from sdrt.errors import BundleError, SdrtError
from sdrt.tokenizer_file import read_tokenizer_file


class PromptTokenizer:
    """The tokenizer of a bundle. What is damaged in its file may show only with a text that needs it.

    size: how many ids its file has, up to the largest one.
    """

    def __init__(self, path: Path) -> None:
        """Read it. Raises BundleError if `path` is no tokenizer."""
        from tokenizers import Tokenizer

        self._path = path
        text, self.size = read_tokenizer_file(path)
        with self._damage_named():
            self._tokenizer = Tokenizer.from_str(text)
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

        reserved: words that are added later. Raises InputError if the tokenizer has the word already,
        BundleError if its file is damaged.
        """
        with self._damage_named():
            added = add_words(self._tokenizer, token, ids, called=called, reserved=reserved)
            self._tokenizer.add_tokens(added)
            self._words = words_of_several_ids(self._tokenizer)
        return [id for one in added if (id := self._tokenizer.token_to_id(one.content)) is not None]

    def tokens(self, text: str) -> list[int]:
        """The ids of a text, without begin and end; one for each of `words`.

        Raises BundleError if the tokenizer's file is damaged.
        """
        with self._damage_named():
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    @contextlib.contextmanager
    def _damage_named(self) -> Iterator[None]:
        """Turn what the library raises into a BundleError that names the file."""
        try:
            yield
        except SdrtError:
            raise
        except BaseException as error:
            # tokenizers raises plain Exception; a panic of its Rust code is a BaseException of pyo3's
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            said = " ".join(str(error).split())
            raise BundleError(
                f"{self._path} is not a tokenizer, or a damaged one: {said}; export the bundle again"
            ) from None
