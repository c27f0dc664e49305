"""Attention, escapes and BREAK, against what AUTOMATIC1111 does with the same texts."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sdrt.errors import InputError
from sdrt.prompt import BREAK, Segment, escape, parse_attention, plan_prompt

UP, UP2, UP3, UP4 = 1.1, 1.1 * 1.1, 1.1 * 1.1 * 1.1, 1.1 * 1.1 * 1.1 * 1.1
DOWN = 1 / 1.1

# text, segments; a text alone has weight 1
TEXTS = [
    # the documented examples of AUTOMATIC1111
    ("normal text", ["normal text"]),
    ("an (important) word", ["an ", ("important", UP), " word"]),
    ("(unbalanced", [("unbalanced", UP)]),
    (r"\(literal\]", ["(literal]"]),
    ("(unnecessary)(parens)", [("unnecessaryparens", UP)]),
    (
        "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
        [
            "a ",
            ("house", 1.5730000000000004),
            (" ", 1.1),
            ("on", 1.0),
            (" a ", 1.1),
            ("hill", 0.55),
            (", sun, ", 1.1),
            ("sky", 1.4641000000000006),
            (".", 1.1),
        ],
    ),
    # nesting
    ("((x))", [("x", UP2)]),
    ("(((x)))", [("x", UP3)]),
    ("[x]", [("x", DOWN)]),
    ("[[x]]", [("x", DOWN * DOWN)]),
    ("([x])", [("x", DOWN * UP)]),
    ("(a (b:2) c:3)", [("a ", 3.0), ("b", 6.0), (" c", 3.0)]),
    ("([a)]", [("a", UP * DOWN)]),
    ("(a[b)c]", [("a", UP), ("b", UP * DOWN), ("c", DOWN)]),
    # numbers
    ("(x:1.3)", [("x", 1.3)]),
    ("(x:.5)", [("x", 0.5)]),
    ("(x:1.)", [("x", 1.0)]),
    ("(x:-1)", [("x", -1.0)]),
    ("(x:+2)", [("x", 2.0)]),
    ("(x:0)", [("x", 0.0)]),
    ("(x: 1.2 )", [("x", 1.2)]),
    ("(x :\n1.2)", [("x ", 1.2)]),
    ("(a:b:1.2)", [("a:b", 1.2)]),
    ("(x:1.2:1.3)", [("x:1.2", 1.3)]),
    ("(:1.2)", []),
    ("x:1.2)", ["x:1.2)"]),
    ("[x:1.2]", [("x:1.2", DOWN)]),
    ("[(x:1.2]", [("x:1.2", DOWN * UP)]),
    # no numbers
    ("(a:b)", [("a:b", UP)]),
    ("(x:)", [("x:", UP)]),
    ("(x:1,2)", [("x:1,2", UP)]),
    ("(x:1 2)", [("x:1 2", UP)]),
    ("(x:1.2.3)", [("x:1.2.3", UP)]),
    ("(wait:...)", [("wait:...", UP)]),
    ("(x:1e3)", [("x:1e3", UP)]),
    ("(x:0x10)", [("x:0x10", UP)]),
    ("(x:nancy)", [("x:nancy", UP)]),
    ("x:nan)", ["x:nan)"]),
    # unbalanced
    ("x)", ["x)"]),
    ("x]", ["x]"]),
    ("((x)", [("x", UP2)]),
    ("(x))", [("x", UP), ")"]),
    ("a [b", ["a ", ("b", DOWN)]),
    ("a (b [c", ["a ", ("b ", UP), ("c", UP * DOWN)]),
    ("()", []),
    ("a()b", ["ab"]),
    ("a:) b", ["a:) b"]),
    # escapes
    (r"\(x\)", ["(x)"]),
    (r"(\(x\):1.3)", [("(x)", 1.3)]),
    (r"\\", ["\\"]),
    (r"\\(x)", ["\\", ("x", UP)]),
    (r"C:\path", ["C:path"]),
    ("x\\", ["x"]),
    (r"a\:b\|c", ["a:b|c"]),
    (r"(x\:1.2)", [("x", 1.2)]),
    (r"(x:\1.2)", [("x:1.2", UP)]),
    # not for this pass
    ("http://x", ["http://x"]),
    ("10:30", ["10:30"]),
    ("a|b AND c", ["a|b AND c"]),
    ("[a:b:0.5]", [("a:b:0.5", DOWN)]),
    # spacing and other scripts
    ("", []),
    ("   ", ["   "]),
    ("( x )", [(" x ", UP)]),
    ("a\t(b\n)", ["a\t", ("b\n", UP)]),
    ("(猫:1.2)咪", [("猫", 1.2), "咪"]),
    ("👩‍👩‍👧 (🐈‍⬛)", ["👩‍👩‍👧 ", ("🐈‍⬛", UP)]),
    ("(חתול:1.2) שחור", [("חתול", 1.2), " שחור"]),
    ("(قطة)", [("قطة", UP)]),
    ("\uff08x\uff09", ["\uff08x\uff09"]),  # full-width brackets
    ("a\0(b)", ["a\0", ("b", UP)]),
    # BREAK
    ("a BREAK b", ["a", BREAK, "b"]),
    ("BREAK", [BREAK]),
    ("a BREAK", ["a", BREAK]),
    ("a BREAK BREAK b", ["a", BREAK, BREAK, "b"]),
    ("a\nBREAK\nb", ["a", BREAK, "b"]),
    ("a,BREAK,b", ["a,", BREAK, ",b"]),
    ("(a) BREAK (b:2)", [("a", UP), BREAK, ("b", 2.0)]),
    ("aBREAK BREAKb break", ["aBREAK BREAKb break"]),
    (r"a \BREAK", ["a ", BREAK]),
    (r"B\REAK", ["BREAK"]),
    ("(a BREAK b:1.2)", [("a", 1.2), BREAK, ("b", 1.2)]),  # a word of weight -1.2 in AUTOMATIC1111
    ("x BREAK (y:-1)", ["x", BREAK, ("y", -1.0)]),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_segments_are_those_of_automatic1111(text, expected):
    segments = [Segment(item) if isinstance(item, str) else item for item in expected]
    segments = [Segment(*item) if isinstance(item, tuple) else item for item in segments]
    assert list(parse_attention(text)) == segments


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("(x:nan)", "nan"),
        ("(x:NaN)", "nan"),
        ("(x: inf )", "inf"),
        ("(x:-Infinity)", "-inf"),
        ("(x:1e999)", "inf"),
        (f"(x:{'9' * 400})", "inf"),
        ("(x:1000001)", "1e"),
        ("((x:-2000):2000)", "-4e"),
        (f"(((x:{'9' * 200}):{'9' * 200}):0)", "1e"),
    ],
)
def test_weights_are_finite_and_not_huge(text, weight):
    with pytest.raises(InputError, match=f"^the negative prompt has a weight of {weight}") as error:
        parse_attention(text, called="negative prompt")
    assert "\n" not in str(error.value)


SYNTAX = st.lists(st.sampled_from([*"()[]:|\\ab \n", "AND", "BREAK", "0.5", ":1.2)", ": 2 )", ":nan", "é"]))


@given(st.one_of(st.text(), SYNTAX.map("".join)))
def test_any_text_has_segments(text):
    try:
        segments = parse_attention(text)
    except InputError as error:
        assert "a weight of nan" in str(error)
        return
    texts = [segment for segment in segments if segment is not BREAK]
    assert all(segment.text for segment in texts)
    assert set("".join(segment.text for segment in texts)) <= set(text)


@given(st.text(st.characters(exclude_characters=r"\()[]:")).filter(lambda text: "BREAK" not in text))
def test_text_without_syntax_is_itself(text):
    assert parse_attention(text) == ((Segment(text),) if text else ())


@given(st.one_of(st.text(), SYNTAX.map("".join)))
@example("cat :0.5")
@example("cat: -1.")
@example("a AND b BREAK c")
@example("(a:1.2) [b:c:0.5] [d|e] \\")
def test_escaped_text_is_itself(text):
    (part,) = plan_prompt(escape(text), 20)
    (entry,) = part.schedule
    assert part.weight == 1
    assert "".join(segment.text for segment in entry.segments).rstrip() == text.rstrip()
    assert {segment.weight for segment in entry.segments} <= {1.0}


@given(st.text())
def test_escaped_text_is_itself_within_an_edit(text):
    (part,) = plan_prompt(f"[{escape(text)}|x] ", 2)
    first, second = part.at(1), part.at(2)
    assert "".join(segment.text for segment in first).rstrip() == text.rstrip()
    assert second == (Segment("x"),)
