"""Weighted segments to windows of token ids.

A prompt of any length is cut into chunks that the text encoder reads one by one; their hidden states follow
one another along the sequence axis. Where it is cut is decided as in AUTOMATIC1111 (`tokenize_line` in
`modules/sd_hijack_clip.py` of stable-diffusion-webui).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from sdrt.errors import BundleError
from sdrt.prompt.attention import Break, Segment
from sdrt.prompt.limits import check_chunks

if TYPE_CHECKING:
    from sdrt.manifest import TextSettings

COMMA_BACKTRACK = 20
"""Tokens. AUTOMATIC1111's `comma_padding_backtrack`."""


@dataclass(frozen=True)
class Chunk:
    """One window of the text encoder.

    ids: begin, at most max_length - 2 tokens, end, padding: max_length in all.
    weights: one for each id; those of begin, end and padding are 1.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]


def chunk_segments(
    segments: Iterable[Segment | Break],
    tokenize: Callable[[str], Sequence[int]],
    settings: TextSettings,
    *,
    words: Mapping[int, Sequence[int]] = MappingProxyType({}),
    comma_id: int | None = None,
    comma_backtrack: int = COMMA_BACKTRACK,
    called: str = "prompt",
) -> tuple[Chunk, ...]:
    """Chunks of a text, at least one.

    tokenize: text to ids, without begin and end. words: ids that stand for several, which stay together:
    where a chunk has no room for all of them, they begin the next one. comma_id: of the comma as a word,
    `,</w>` in the vocabulary of CLIP, or None. called: what messages call the text.
    Where a chunk is full and its last comma is among its last `comma_backtrack` tokens, what follows that
    comma moves to the next chunk, unless the token that found no room is a comma itself.
    Raises InputError above 512 chunks, BundleError for a window with no room for a token.
    """
    room = settings.max_length - 2
    if room < 1:
        raise BundleError(f"the text window has {settings.max_length} tokens, 3 are needed; export again")
    chunks: list[list[tuple[int, float]]] = [[]]
    last_comma: int | None = None
    for segment in segments:
        check_chunks(len(chunks), called)
        if isinstance(segment, Break):
            chunks.append([])
            last_comma = None
            continue
        for token in tokenize(segment.text):
            chunk = chunks[-1]
            if len(chunk) == room:
                moved = []
                if token != comma_id and last_comma is not None and room - last_comma <= comma_backtrack:
                    moved = chunk[last_comma + 1 :]
                    del chunk[last_comma + 1 :]
                chunks.append(moved)
                last_comma = None
            elif token == comma_id:
                last_comma = len(chunk)
            ids = words.get(token, (token,))
            if len(chunks[-1]) + len(ids) > room:
                chunks.append([])
                last_comma = None
            chunks[-1] += [(id, segment.weight) for id in ids]
    if len(chunks) > 1 and not chunks[-1]:
        chunks.pop()  # a BREAK at the end begins nothing
    check_chunks(len(chunks), called)
    return tuple(_window(chunk, settings) for chunk in chunks)


def balance(
    prompts: Iterable[Sequence[Chunk]], settings: TextSettings, count: int = 0
) -> list[tuple[Chunk, ...]]:
    """Prompts of equally many chunks, at least `count`: shorter ones are followed by empty chunks.

    For rows of one batch, whose hidden states are equally long: negative and positive prompts, parts, the
    entries of a schedule.
    """
    rows = [tuple(chunks) for chunks in prompts]
    longest = max((count, *map(len, rows)))
    empty = (_window([], settings),)
    return [row + empty * (longest - len(row)) for row in rows]


def _window(tokens: Sequence[tuple[int, float]], settings: TextSettings) -> Chunk:
    padding = settings.max_length - 2 - len(tokens)
    ids = [settings.bos_token_id, *(token for token, _ in tokens), settings.eos_token_id]
    weights = [1.0, *(weight for _, weight in tokens), 1.0]
    return Chunk((*ids, *[settings.pad_token_id] * padding), (*weights, *[1.0] * padding))
