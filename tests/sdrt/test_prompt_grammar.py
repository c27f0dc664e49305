"""Composition, editing and alternation, against what AUTOMATIC1111 does with the same prompts."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdrt.errors import InputError
from sdrt.prompt import Alternation, Edit, parse_prompt, schedule_texts

# prompt, steps, texts with the last step of each; neighbours that are equal are one
SCHEDULES = [
    # the documented examples of AUTOMATIC1111
    ("test", 10, [(10, "test")]),
    ("a [b:3]", 10, [(3, "a "), (10, "a b")]),
    ("a [b: 3]", 10, [(3, "a "), (10, "a b")]),
    ("a [[[b]]:2]", 10, [(2, "a "), (10, "a [[b]]")]),
    ("[(a:2):3]", 10, [(3, ""), (10, "(a:2)")]),
    ("a [b : c : 1] d", 10, [(1, "a b  d"), (10, "a  c  d")]),
    ("a[b:[c:d:2]:1]e", 10, [(1, "abe"), (2, "ace"), (10, "ade")]),
    ("a [unbalanced", 10, [(10, "a [unbalanced")]),
    ("a [b:.5] c", 10, [(5, "a  c"), (10, "a b c")]),
    ("((a][:b:c [d:3]", 10, [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
    ("[a|(b:1.1)]", 10, [(step, "a" if step % 2 else "(b:1.1)") for step in range(1, 11)]),
    ("[fe|]male", 10, [(step, "female" if step % 2 else "male") for step in range(1, 11)]),
    (
        "[fe|||]male",
        10,
        [(1, "female"), (4, "male"), (5, "female"), (8, "male"), (9, "female"), (10, "male")],
    ),
    # also documented there, as not handled: a bar that divides nothing leaves the whole prompt as it is
    ("a [{b|d{:.5] c", 10, [(10, "a [{b|d{:.5] c")]),
    (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75]"
        "[ in foreground::0.6][ in background:0.25] [shoddy:masterful:0.5]",
        100,
        [
            (25, "fantasy landscape with a mountain and an oak in foreground shoddy"),
            (50, "fantasy landscape with a lake and an oak in foreground in background shoddy"),
            (60, "fantasy landscape with a lake and an oak in foreground in background masterful"),
            (75, "fantasy landscape with a lake and an oak in background masterful"),
            (100, "fantasy landscape with a lake and a christmas tree in background masterful"),
        ],
    ),
    # where an edit switches
    ("[a:b:0.5]", 1, [(1, "b")]),
    ("[a:b:0.5]", 7, [(3, "a"), (7, "b")]),
    ("[a:b:0.29]", 100, [(28, "a"), (100, "b")]),  # 0.29 * 100 is 28.999999999999996
    ("[a::0.5]", 4, [(2, "a"), (4, "")]),
    ("[a:b:1]", 4, [(1, "a"), (4, "b")]),
    ("[a:b:1.0]", 4, [(4, "a")]),
    ("[a:b:1.5]", 4, [(4, "a")]),
    ("[a:b:30]", 4, [(4, "a")]),
    ("[a:b:0]", 4, [(4, "b")]),
    ("[a:b:-1]", 4, [(4, "b")]),
    ("[a:b:-.5]", 4, [(4, "b")]),
    ("[a:b:+2]", 4, [(2, "a"), (4, "b")]),
    ("[a:b:2e0]", 4, [(2, "a"), (4, "b")]),
    ("[a:b:5e-1]", 4, [(2, "a"), (4, "b")]),
    ("[a:b:1e999]", 4, [(4, "a")]),
    ("[a:b:\t2\n]", 4, [(2, "a"), (4, "b")]),
    ("[1:2:3]", 4, [(3, "1"), (4, "2")]),
    ("[:2]", 4, [(4, "")]),
    # nesting
    ("[a|[b|c]]", 4, [(1, "a"), (2, "c"), (3, "a"), (4, "c")]),
    ("[[a|b]:c:2]", 4, [(1, "a"), (2, "b"), (4, "c")]),
    ("[a:[b|c]:2]", 4, [(2, "a"), (3, "b"), (4, "c")]),
    ("[x|[a:b:2]]", 4, [(1, "x"), (2, "a"), (3, "x"), (4, "b")]),
    ("(x:[1.1:1.4:0.5])", 4, [(2, "(x:1.1)"), (4, "(x:1.4)")]),
    ("([a|b]:1.2)", 2, [(1, "(a:1.2)"), (2, "(b:1.2)")]),
    ("[|a]", 3, [(1, ""), (2, "a"), (3, "")]),
    ("[a|b|c]", 4, [(1, "a"), (2, "b"), (3, "c"), (4, "a")]),
    # what is neither edit nor alternation
    ("", 4, [(4, "")]),
    ("[]", 4, [(4, "[]")]),
    ("[a:b]", 4, [(4, "[a:b]")]),
    ("[a:b:c]", 4, [(4, "[a:b:c]")]),
    ("[a:b:c:2]", 4, [(4, "[a:b:c:2]")]),
    ("[a:b:2 3]", 4, [(4, "[a:b:2 3]")]),
    ("[a:b:nan]", 4, [(4, "[a:b:nan]")]),
    ("[a:b:٣]", 4, [(4, "[a:b:٣]")]),
    ("[a:(b:2]", 4, [(4, "[a:(b:2]")]),
    ("[(a:b:c):d:2]", 4, [(4, "[(a:b:c):d:2]")]),
    ("[[a:b]:2]", 4, [(4, "[[a:b]:2]")]),
    ("[x [a:b:2]", 4, [(2, "[x a"), (4, "[x b")]),
    ("[a:b:2] :) x]", 4, [(2, "a :) x]"), (4, "b :) x]")]),
    (
        "10:30 [a:b:2] http://x C:\\path",
        4,
        [(2, r"10:30 a http://x C:\path"), (4, r"10:30 b http://x C:\path")],
    ),
    # escapes, and what fits no rule
    (r"[a\:x:b:2]", 4, [(2, r"a\:x"), (4, "b")]),
    (r"[a\|x|b]", 2, [(1, r"a\|x"), (2, "b")]),
    (r"\[a:b:2\]", 4, [(4, r"\[a:b:2\]")]),
    (r"[a:\\:2]", 4, [(2, "a"), (4, r"\\")]),
    ("a | b [c:d:2]", 4, [(4, "a | b [c:d:2]")]),
    ("[a|b:2]", 4, [(4, "[a|b:2]")]),
    ("[(a|b)|c] [d:e:2]", 4, [(4, "[(a|b)|c] [d:e:2]")]),
    ("[a|b] [c|d", 4, [(4, "[a|b] [c|d")]),
    ("[c:d:2] \\", 4, [(4, "[c:d:2] \\")]),
    ("[c:d:2] \\\nx", 4, [(4, "[c:d:2] \\\nx")]),
    # other scripts
    ("[🐱:🐶:2] 猫", 4, [(2, "🐱 猫"), (4, "🐶 猫")]),
    ("[קיץ:חורף:2]", 4, [(2, "קיץ"), (4, "חורף")]),
    ("[شتاء|صيف]", 2, [(1, "شتاء"), (2, "صيف")]),
]

# prompt, texts of its parts, their weights
PARTS = [
    ("a", ["a"], [1]),
    ("a cat :0.7", ["a cat"], [0.7]),
    ("a AND b :0.7 AND c", ["a", " b", " c"], [1, 0.7, 1]),
    ("a:1.2AND b", ["a:1.2AND b"], [1]),  # no word of its own
    ("a:1.2 AND b", ["a", " b"], [1.2, 1]),
    ("a : -1. AND b : +.5\n", ["a", " b"], [-1, 0.5]),
    ("a\nb :2", ["a\nb"], [2]),
    ("a :1e3 AND b :nan", ["a :1e3", " b :nan"], [1, 1]),
    ("AND", ["", ""], [1, 1]),
    ("BAND AND and ANDy", ["BAND", " and ANDy"], [1, 1]),
    ("(a AND b)", ["(a", " b)"], [1, 1]),
    ("(a:1.3)", ["(a:1.3)"], [1]),
    ("http://x:8080", ["http://x"], [8080]),
    ("a :\\3", ["a :\\3"], [1]),
    (":0.5", [""], [0.5]),
    ("a:b:0.5", ["a:b"], [0.5]),
    ("[a:b:0.5", ["[a:b"], [0.5]),
    ("猫 AND 🐶:2", ["猫", " 🐶"], [1, 2]),
]


@pytest.mark.parametrize(("prompt", "steps", "expected"), SCHEDULES)
def test_each_step_has_the_text_it_has_in_automatic1111(prompt, steps, expected):
    (part,) = parse_prompt(prompt, composition=False)
    assert schedule_texts(part.nodes, steps) == expected


@pytest.mark.parametrize(("prompt", "texts", "weights"), PARTS)
def test_and_joins_parts_with_weights(prompt, texts, weights):
    parts = parse_prompt(prompt)
    assert [part.weight for part in parts] == weights
    assert [schedule_texts(part.nodes, 1) for part in parts] == [[(1, text)] for text in texts]


def test_negative_prompts_have_no_parts():
    (part,) = parse_prompt("a AND b :0.7 ", composition=False)
    assert (part.weight, part.nodes) == (1, ("a AND b :0.7 ",))


def test_the_tree():
    (part,) = parse_prompt("x [a:[b|(c:1.2)]:0.5] y")
    alternation = Alternation((("b",), ("(c:1.2)",)))
    assert part.nodes == ("x ", Edit(("a",), (alternation,), 0.5, is_fraction=True), " y")


@pytest.mark.parametrize("weight", ["9" * 400, "-" + "9" * 400, "1000001"])
def test_weights_of_parts_are_finite_and_not_huge(weight):
    with pytest.raises(InputError, match="the negative prompt has a weight of"):
        parse_prompt(f"a AND b :{weight}", called="negative prompt")


SYNTAX = st.lists(
    st.sampled_from([*"()[]:|\\ab \n", "AND", "BREAK", "0.5", ":1.2)", "[a:b:2]", "[a|b]", "é"])
)


@given(st.one_of(st.text(), SYNTAX.map("".join)), st.integers(1, 30))
def test_any_text_is_a_prompt(prompt, steps):
    for part in parse_prompt(prompt):
        texts = schedule_texts(part.nodes, steps)
        ends = [end for end, _ in texts]
        assert ends == sorted(set(ends)) and ends[-1] == steps and ends[0] >= 1
        assert all(before[1] != after[1] for before, after in pairwise(texts))


@given(st.text(st.characters(exclude_characters=r"\()[]:|")))
def test_text_without_syntax_is_itself(prompt):
    (part,) = parse_prompt(prompt, composition=False)
    assert schedule_texts(part.nodes, 5) == [(5, prompt)]
