"""Whether a tokenizer.json is one that the `tokenizers` library can be given.

The library is written in Rust and ends some mistakes in a panic, which is no `Exception` and prints a page.
So only what tokenizers of CLIP have is accepted: byte pair encoding, and parts that read text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from sdrt.errors import BundleError

_MAX_BYTES = 100_000_000  # the largest vocabularies have a fifth of that
_MAX_ID = 10_000_000
_PARTS = frozenset(
    {
        *("Sequence", "NFC", "NFD", "NFKC", "NFKD", "Replace", "Lowercase", "Strip", "StripAccents"),
        *("BertNormalizer", "Split", "ByteLevel", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits"),
        *("BertPreTokenizer", "RobertaProcessing", "BertProcessing", "TemplateProcessing", "BPEDecoder"),
    }
)
# Alternatives that are each a text, or one class of characters once or more: they read text in linear time
# and never match nothing, which is another panic.
_TEXT = r"(?:[^\\()\[\]{}*+?.|^$]|\\[^\w\s])+"
_CLASS = r"(?:\[\^?(?:[^\[\]\\]|\\[pP]\{\w+\}|\\[sSdDwW]|\\[^\w\s])+\]|\\[sSdDwW]|\\[pP]\{\w+\})\+?"
_PATTERN = re.compile(rf"(?:{_TEXT}|{_CLASS})(?:\|(?:{_TEXT}|{_CLASS}))*")
_MAX_PATTERN = 1000
_Id = Annotated[int, msgspec.Meta(ge=0, le=_MAX_ID)]


class _Model(msgspec.Struct):
    type: Literal["BPE"]
    vocab: dict[str, _Id]
    merges: list[str | Annotated[list[str], msgspec.Meta(min_length=2, max_length=2)]]
    # what the library cuts from the front of a merge's second half, whether it is there or not
    continuing_subword_prefix: Literal[""] | None = None
    # leaves out merges at random, so that a prompt would have other tokens each time
    dropout: None = None


class _AddedToken(msgspec.Struct):
    id: _Id
    content: str


class _File(msgspec.Struct):
    model: _Model
    added_tokens: list[_AddedToken] = []
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    post_processor: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None


def read_tokenizer_file(path: Path) -> tuple[str, int]:
    """The text of a tokenizer.json that is sound, and how many ids it has: up to the largest one.

    Raises BundleError naming the file and the field.
    """
    try:
        content = path.read_bytes()
        if len(content) > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES} bytes")
        text = content.decode()
        file = msgspec.json.decode(text, type=_File)
        for called, part in (
            ("normalizer", file.normalizer),
            ("pre_tokenizer", file.pre_tokenizer),
            ("post_processor", file.post_processor),
            ("decoder", file.decoder),
        ):
            for one in () if part is None else _parts(part):
                _check_part(called, one)
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}; export the bundle again") from None
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise BundleError(
            f"{path} is not a tokenizer, or a damaged one: {error}; export the bundle again"
        ) from None
    ids = (*file.model.vocab.values(), *(one.id for one in file.added_tokens))
    return text, max(ids, default=-1) + 1


def _parts(part: Any) -> Iterator[Any]:
    """A part and those within it."""
    yield part
    if isinstance(part, dict):
        for key in ("normalizers", "pretokenizers", "processors", "decoders"):
            inner = part.get(key, [])
            for one in inner if isinstance(inner, list) else [inner]:
                yield from _parts(one)


def _check_part(called: str, part: Any) -> None:
    kind = part.get("type") if isinstance(part, dict) else part
    if not isinstance(kind, str) or kind not in _PARTS:
        raise ValueError(f"its {called} has a part of type {str(kind)[:40]!r}")
    pattern = part.get("pattern", {"String": " "})
    match pattern:
        case {"Regex": str(text)} if len(text) <= _MAX_PATTERN and _PATTERN.fullmatch(text):
            return
        case {"String": str(text)} if text:
            return
    raise ValueError(f"its {called} has the pattern {str(pattern)[:60]!r}, which no tokenizer of CLIP has")
