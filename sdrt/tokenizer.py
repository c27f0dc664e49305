"""Prompts to token ids, with the `tokenizers` library alone."""

from __future__ import annotations

from pathlib import Path

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

    @property
    def comma_id(self) -> int | None:
        """The id of a comma as a word of its own, if there is one."""
        found: int | None = self._tokenizer.token_to_id(",</w>")
        return found

    def tokens(self, text: str) -> list[int]:
        """The ids of a text, without begin and end."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids
