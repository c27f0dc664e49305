"""What a file without configs is taken for."""

from __future__ import annotations

import pytest

from sdrt_export.original.clip_tokenizer import END, clip_tokenizer

# From the tokenizer of open_clip 3.3.0, which is CLIP's own.
KNOWN = {
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "Hello, World!": [3306, 267, 1002, 256],
    "漢字 naïve façade": [162, 120, 95, 35751, 501, 1097, 35689, 563, 778, 10067, 1928],
    "it's the émigré's 2nd 123 :-)": [585, 568, 518, 3459, 3736, 4166, 568, 273, 1764, 272, 273, 274, 4223],
    "": [],
}


@pytest.mark.parametrize("text", KNOWN)
def test_tokens_are_those_of_clip(text: str) -> None:
    assert clip_tokenizer(END)(text).input_ids == [49406, *KNOWN[text], 49407]


def test_padding_differs_between_encoders() -> None:
    """CLIP pads with its end token, OpenCLIP with token 0."""
    assert clip_tokenizer(END).pad_token_id == 49407
    assert clip_tokenizer("!").pad_token_id == 0
    assert len(clip_tokenizer("!")) == 49408
    assert clip_tokenizer("!")("a cat!").input_ids == [49406, 320, 2368, 0, 49407]
