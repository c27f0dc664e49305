"""Prompts as nobody would write them, and some would: seeded mixtures of what tokenizers trip over."""

# ruff: noqa: RUF001, SIM905
from __future__ import annotations

import random
from collections.abc import Sequence

_ODD = [
    # joiners, skin tones, flags, keycaps, presentation selectors
    *"👩‍👩‍👧‍👦 🧑🏽‍🚀 🏴‍☠️ 🇦🇶 3️⃣ ☺️ ❤ 🫠 \U0001faa9 🏴\U000e0067\U000e0062\U000e007f".split(" "),
    # combining marks, alone, stacked, in and out of order; composed and compatibility forms
    *"é e\u0301 a\u0323\u0302 a\u0302\u0323 Å \u212b \u0301 Z̷̢a̶l̸g̵o̶ ﬁne ①② ½ ㎏ Ａｂｃ 각 ǅ".split(" "),
    # right to left, with marks and controls of direction; scripts without spaces
    *"مرحبا שָׁלוֹם \u202eabc\u202c \u200fx ﷺ 日本語 한국어 漢字かな交じり文 ไทย हिन्दी 𠮷野家".split(" "),
    # controls, NUL, what Unicode keeps for itself, the ends of its planes
    *"\x00 a\x00b \x01\x02 \x1b[31m \x7f \x85 \ufeff \ufffd \ufffe \U0010ffff \u200b \u200d".split(" "),
    # letter case: dotless and dotted i, sharp s, final sigma, what has no lower case of one letter
    *"İstanbul ISPARTA ısı DİYARBAKIR Straße STRASSE ẞ ΣΊΣΥΦΟΣ Σ ΑΣ. ŒUVRE Ⅷ \u212a".split(" "),
    # contractions, apostrophes of several kinds, also in capitals and alone
    *"it's I'LL you've he'd we're I'm don't 's ''s 'll've rock'n'roll it’s 'S".split(" "),
    # numbers: each digit is a token of its own
    *"0 007 1234567890 3.14159 1e-5 1/2 ٣٤ ४२ Ⅻ ² 10k v2.0b -1 1,000,000".split(" "),
    # text that looks like tokens, markup or the prompt language
    *"<|endoftext|> <|startoftext|> <|ENDOFTEXT|> </w> cat</w> <| Ġcat Ã© [a|b]".split(" "),
    *"&amp; &lt;b&gt; &#39; &eacute; &amp;amp; &nbsp; <b>bold</b> <!----> <lora:x:1> (x:1)".split(" "),
    *"a_b snake_case_word __ -- ... !!1 #tag @name http://a.b/c?d=e&f#g C:\\x $5 100% „w“".split(" "),
    # very long words and runs
    *("a" * 300, "ab" * 400, "supercalifragilisticexpialidocious", "!" * 200, "é" * 150, "9" * 90, "=-" * 60),
]
_SPACES = [" ", " ", "", "  ", "\t", "\n", "\r\n", "\xa0", "\u3000", "\u2009", "\u2028", "\x0b\x0c", ",", "-"]
_BLOCKS = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F)]
_BLOCKS += [(0x2000, 0x206F), (0x2100, 0x218F), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3)]
_BLOCKS += [(0x0, 0x1F), (0xE000, 0xE0FF), (0xFB00, 0xFDFF), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF)]


def odd_prompts(count: int, words: Sequence[str], seed: int = 0) -> list[str]:
    """Prompts, the same for the same seed; the first are the odd pieces one by one.

    words: what other prompts are mixed with.
    """
    rng = random.Random(seed)
    made = ["", " ", "\n", *_ODD]
    while len(made) < count:
        kind = rng.randrange(4)
        if kind == 0:
            made.append(_characters(rng))
        elif kind == 1:
            made.append(_other_case(_joined(rng, _ODD), rng))
        else:
            made.append(_joined(rng, _ODD if kind == 2 else words))
    return made


def _joined(rng: random.Random, pieces: Sequence[str]) -> str:
    return "".join(rng.choice(pieces) + rng.choice(_SPACES) for _ in range(rng.randint(1, 20)))


def _characters(rng: random.Random) -> str:
    """From one block or from all; Unicode's surrogates are in none of them."""
    blocks = [rng.choice(_BLOCKS)] if rng.random() < 0.5 else _BLOCKS
    return "".join(chr(rng.randint(*rng.choice(blocks))) for _ in range(rng.randint(1, 60)))


def _other_case(text: str, rng: random.Random) -> str:
    return "".join(rng.choice((str.upper, str.lower, str.title))(letter) for letter in text)
