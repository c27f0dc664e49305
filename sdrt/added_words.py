"""Words added to a tokenizer, which stand for vectors that were learned: `token`, `token_1`, `token_2` ...

The convention is that of diffusers' `load_textual_inversion`, so that a tokenizer says by itself which words
have several vectors.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sdrt.errors import InputError

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer


def names_of(token: str, ids: int) -> list[str]:
    """Names in the tokenizer of a word's ids: `token`, `token_1`, `token_2`, as diffusers has them."""
    return [token, *(f"{token}_{i}" for i in range(1, ids))]


def added_token(name: str) -> AddedToken:
    """A word as the tokenizer finds it: in upper and lower case, and whole.

    What begins and ends with letters, `style`, is not found in `lifestyle`, as in AUTOMATIC1111; `<style>` is
    found anywhere, as in diffusers.
    """
    from tokenizers import AddedToken

    whole = re.fullmatch(r"\w(.*\w)?", name, re.DOTALL) is not None
    return AddedToken(name, normalized=True, single_word=whole)


def check_new(tokenizer: Tokenizer, token: str, ids: int, called: str) -> None:
    """Raise InputError if a tokenizer has `token` or one of its names already, in upper or lower case."""
    normal = str if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str
    added = {normal(one.content) for one in tokenizer.get_added_tokens_decoder().values()}
    for name in map(normal, names_of(token, ids)):
        word, _, number = name.rpartition("_")
        # it would be one more id of that word
        continues = word in added and number.isdigit()
        known = len(tokenizer.encode(name, add_special_tokens=False).ids) == 1
        if continues or name in added or known or tokenizer.token_to_id(name) is not None:
            raise InputError(
                f"{called}: {token} is a token of the model already; give another with {called}:TOKEN"
            )


def words_of_several_ids(tokenizer: Tokenizer) -> dict[int, tuple[int, ...]]:
    """The words that `token`, `token_1` ... were added for: id of the first -> ids of all."""
    added = {one.content: id for id, one in tokenizer.get_added_tokens_decoder().items() if not one.special}
    words = {}
    for name, first in added.items():
        ids = [first]
        while (following := added.get(f"{name}_{len(ids)}")) is not None:
            ids.append(following)
        if len(ids) > 1:
            words[first] = tuple(ids)
    return words
