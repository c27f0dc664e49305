"""Windows of token ids. The tokenizer here gives a word the number it is, a comma 0."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdrt.errors import BundleError, InputError
from sdrt.manifest import TextSettings
from sdrt.prompt import BREAK, Chunk, Segment, balance, chunk_segments

BOS, EOS, PAD, COMMA = 1001, 1002, 1003, 0
CLIP = TextSettings(max_length=77, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
EMPTY = (BOS, EOS, *[PAD] * 75)


def tokenize(text):
    return [COMMA if word == "," else int(word) for word in text.split()]


def chunk(*segments, settings=CLIP, **options):
    options = {"comma_id": COMMA} | options
    return chunk_segments(
        [Segment(s) if isinstance(s, str) else s for s in segments], tokenize, settings, **options
    )


def words(count, start=1):
    return " ".join(map(str, range(start, start + count)))


def tokens(chunk):
    """What is between begin and end, which are checked."""
    assert len(chunk.ids) == len(chunk.weights) == 77
    end = chunk.ids.index(EOS)
    assert chunk.ids[0] == BOS and set(chunk.ids[end + 1 :]) <= {PAD}
    assert chunk.weights[0] == 1 and set(chunk.weights[end:]) == {1}
    return list(chunk.ids[1:end])


def lengths(chunks):
    return [len(tokens(chunk)) for chunk in chunks]


@pytest.mark.parametrize("segments", [[], [""], [BREAK]])
def test_an_empty_prompt_is_one_empty_chunk(segments):
    assert chunk(*segments) == (Chunk(EMPTY, (1.0,) * 77),)


def test_weights_follow_their_tokens():
    (only,) = chunk("5 6", Segment("7", 1.5), Segment("8 9", -0.5))
    assert only.ids == (BOS, 5, 6, 7, 8, 9, EOS, *[PAD] * 70)
    assert only.weights == (1, 1, 1, 1.5, -0.5, -0.5, *[1] * 71)


@pytest.mark.parametrize(
    ("count", "expected"), [(74, [74]), (75, [75]), (76, [75, 1]), (150, [75, 75]), (151, [75, 75, 1])]
)
def test_chunks_have_75_tokens(count, expected):
    chunks = chunk(words(count))
    assert lengths(chunks) == expected
    assert [token for chunk in chunks for token in tokens(chunk)] == list(range(1, count + 1))


def test_a_segment_goes_on_in_the_next_chunk():
    first, second = chunk(words(70), Segment(words(10, 71), 2.0))
    assert first.weights == (1,) * 71 + (2,) * 5 + (1,)
    assert second.weights == (1,) + (2,) * 5 + (1,) * 71


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (60, 20, [61, 20]),  # the comma is the 15th token from the end
        (55, 30, [56, 30]),  # the 20th
        (54, 30, [75, 10]),  # the 21st
        (74, 5, [75, 5]),  # the last
        (75, 5, [75, 6]),  # the one too many
        (60, 14, [75]),  # all fits
    ],
)
def test_a_chunk_ends_after_a_comma_that_is_near(before, after, expected):
    chunks = chunk(f"{words(before)} , {words(after, 500)}")
    assert lengths(chunks) == expected
    assert [token for chunk in chunks for token in tokens(chunk)] == [
        *range(1, before + 1),
        COMMA,
        *range(500, 500 + after),
    ]


def test_only_the_last_comma_counts():
    assert lengths(chunk(f"{words(58)} , {words(6)} , {words(20)}")) == [66, 20]


def test_a_comma_that_is_one_too_many_moves_nothing():
    assert lengths(chunk(f"{words(60)} , {words(14)} , {words(3)}")) == [75, 4]


def test_weights_move_with_their_tokens():
    first, second = chunk(f"{words(60)} ,", Segment(words(20), 1.5))
    assert set(first.weights) == {1}
    assert second.weights == (1,) + (1.5,) * 20 + (1,) * 56


@pytest.mark.parametrize("options", [{"comma_id": None}, {"comma_backtrack": 0}, {"comma_backtrack": 14}])
def test_commas_can_be_ignored(options):
    assert lengths(chunk(f"{words(60)} , {words(20)}", **options)) == [75, 6]


def test_break_fills_the_chunk():
    assert lengths(chunk("1 2", BREAK, "3")) == [2, 1]
    assert lengths(chunk("1", BREAK)) == [1]
    assert lengths(chunk(BREAK, "1")) == [0, 1]
    assert lengths(chunk("1", BREAK, BREAK, "2")) == [1, 0, 1]
    assert lengths(chunk(words(75), BREAK, "1")) == [75, 1]


def test_a_comma_before_a_break_is_forgotten():
    assert lengths(chunk(f"{words(70)} ,", BREAK, words(76))) == [71, 75, 1]


def test_padding_may_be_the_end_token():
    settings = TextSettings(max_length=5, bos_token_id=7, eos_token_id=8, pad_token_id=8)
    first, second = chunk("1 2 3 4", settings=settings)
    assert (first.ids, second.ids) == ((7, 1, 2, 3, 8), (7, 4, 8, 8, 8))


def test_a_window_needs_room():
    settings = TextSettings(max_length=2, bos_token_id=7, eos_token_id=8, pad_token_id=8)
    with pytest.raises(BundleError, match="2 tokens"):
        chunk("1", settings=settings)


@pytest.mark.parametrize("segments", [[words(75 * 512 + 1)], ["1", BREAK] * 600])
def test_the_number_of_chunks_is_bounded(segments):
    with pytest.raises(InputError, match="negative prompt fills more than 512 windows"):
        chunk(*segments, called="negative prompt")


def test_the_bound_is_reached():
    assert len(chunk(words(75 * 512))) == 512


def test_balance_adds_empty_chunks():
    short, long = chunk("1"), chunk(words(160))
    assert lengths(long) == [75, 75, 10]
    balanced = balance([short, long, chunk()], CLIP)
    assert [[chunk.ids for chunk in row] for row in balanced] == [
        [short[0].ids, EMPTY, EMPTY],
        [chunk.ids for chunk in long],
        [EMPTY] * 3,
    ]
    assert balance([], CLIP) == []


@given(st.lists(st.one_of(st.just(BREAK), st.lists(st.integers(0, 3), max_size=60))), st.integers(3, 30))
def test_no_token_is_lost(items, max_length):
    settings = TextSettings(max_length=max_length, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
    segments = [
        item if item is BREAK else Segment(" ".join(map(str, item)).replace("0", ",")) for item in items
    ]
    chunks = chunk(*segments, settings=settings)
    assert {len(chunk.ids) for chunk in chunks} == {max_length}
    kept = [token for chunk in chunks for token in chunk.ids if token < BOS]
    assert kept == [token for item in items if item is not BREAK for token in item]


LEARNED = {900: (900, 901, 902)}


def test_a_word_of_several_ids_keeps_its_weight():
    (only,) = chunk("5", Segment("900 6", 1.5), words=LEARNED)
    assert only.ids[:7] == (BOS, 5, 900, 901, 902, 6, EOS)
    assert only.weights[:7] == (1, 1, 1.5, 1.5, 1.5, 1.5, 1)


@pytest.mark.parametrize(("before", "expected"), [(72, [75]), (73, [73, 3]), (74, [74, 3]), (75, [75, 3])])
def test_a_word_of_several_ids_is_not_cut(before, expected):
    chunks = chunk(f"{words(before)} 900", words=LEARNED)
    assert lengths(chunks) == expected
    assert tokens(chunks[-1])[-3:] == [900, 901, 902]


def test_only_a_full_chunk_goes_back_to_its_comma():
    """As in AUTOMATIC1111: for want of room for all of a word, the chunk just ends."""
    full, not_full = (chunk(f"{words(before)} , 80 81 900", words=LEARNED) for before in (72, 71))
    assert lengths(full) == [73, 5]
    assert lengths(not_full) == [74, 3]
