"""Words added to a tokenizer, which stand for vectors that were learned: `token`, `token_1`, `token_2` ...

The names are those of diffusers' `load_textual_inversion`. Where one is a word itself (`style` has three
vectors, and there is an embedding `style_2`), one more underscore tells it apart: `style__2`. The first name
of each word has the flag `rstrip`, which says that no other word goes on there; it changes no token, since
CLIP's tokenizers drop spaces. So a tokenizer says by itself which words have several vectors.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from sdrt.errors import InputError

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

_MOST_UNDERSCORES = 9


def add_words(
    tokenizer: Tokenizer, token: str, ids: int, *, called: str, reserved: Collection[str] = ()
) -> list[AddedToken]:
    """The tokens to add to a tokenizer for a word of so many ids, in their order.

    reserved: words that are added later, whose names are not taken. called: what messages call the file.
    Raises InputError if the tokenizer has the word already, in upper or lower case.
    """
    normal = str if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str
    added = {normal(one.content) for one in tokenizer.get_added_tokens_decoder().values()}

    def is_known(name: str) -> bool:
        normalized = normal(name)
        return (
            normalized in added
            or tokenizer.token_to_id(normalized) is not None
            or len(tokenizer.encode(normalized, add_special_tokens=False).ids) == 1
        )

    if is_known(token):
        raise _known(token, called)
    taken = {normal(name) for name in reserved}
    names = [token]
    for i in range(1, ids):
        free = (name for name in _names(token, i) if normal(name) not in taken and not is_known(name))
        name = next(free, None)
        if name is None:
            raise _known(token, called)
        names.append(name)
    return [_added_token(name, first=name == token) for name in names]


def words_of_several_ids(tokenizer: Tokenizer) -> dict[int, tuple[int, ...]]:
    """The words that `token`, `token_1` ... were added for: id of the first -> ids of all."""
    tokens = tokenizer.get_added_tokens_decoder()
    added = {one.content: id for id, one in tokens.items() if not one.special}
    words = {}
    for name, first in added.items():
        ids = [first]
        # ids of a word follow one another
        while any(
            added.get(following) == ids[-1] + 1 and not tokens[ids[-1] + 1].rstrip
            for following in _names(name, len(ids))
        ):
            ids.append(ids[-1] + 1)
        if len(ids) > 1:
            words[first] = tuple(ids)
    return words


def _names(token: str, i: int) -> list[str]:
    """What the id number i of a word may be called: the first of these that is free."""
    return [f"{token}{'_' * count}{i}" for count in range(1, _MOST_UNDERSCORES + 1)]


def _added_token(name: str, *, first: bool) -> AddedToken:
    """A word as the tokenizer finds it: in upper and lower case, and whole.

    What begins and ends with letters, `style`, is not found in `lifestyle`, as in AUTOMATIC1111; `<style>` is
    found anywhere, as in diffusers. Of two words that begin alike the longer one is found.
    """
    from tokenizers import AddedToken

    whole = re.fullmatch(r"\w(.*\w)?", name, re.DOTALL) is not None
    return AddedToken(name, normalized=True, single_word=whole, rstrip=first)


def _known(token: str, called: str) -> InputError:
    return InputError(f"{called}: {token} is a token of the model already; give another with {called}:TOKEN")
