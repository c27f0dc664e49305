"""Prompts to token ids, with the `tokenizers` library alone."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdrt.errors import BundleError, InputError
from sdrt.manifest import TextSettings


class PromptTokenizer:
    """The tokenizer of a bundle."""

    def __init__(self, path: Path, settings: TextSettings) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(f"{path} is not a tokenizer: {error}; export the bundle again") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._settings = settings

    def encode(self, prompt: str, *, called: str = "prompt") -> NDArray[np.int64]:
        """Begin, tokens, end, padding: [max_length] int64.

        called: what messages call it. More than max_length - 2 tokens are cut, with a warning that quotes
        what was left out.
        Raises InputError for text that is not valid Unicode.
        """
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"the {called} is not valid Unicode: remove the lone surrogate at position {error.start}"
            ) from None
        encoding = self._tokenizer.encode(prompt, add_special_tokens=False)
        settings = self._settings
        room = settings.max_length - 2
        if len(encoding.ids) > room:
            left_out = prompt[encoding.offsets[room][0] :]
            warnings.warn(
                f"the {called} has {len(encoding.ids)} tokens, the model reads {room}; "
                f"left out: {left_out[:60]!r}{' ...' if len(left_out) > 60 else ''}",
                stacklevel=2,
            )
        ids = [settings.bos_token_id, *encoding.ids[:room], settings.eos_token_id]
        padding = [settings.pad_token_id] * (settings.max_length - len(ids))
        return np.array(ids + padding, np.int64)
