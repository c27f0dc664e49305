"""What each step of a run uses, and the bounds of what a prompt may be."""

import time

import pytest

from sdrt.errors import InputError
from sdrt.prompt import BREAK, Segment, plan_prompt


def plan(prompt, steps, **options):
    """Weight and schedule of each part, plain tuples."""
    return [
        (part.weight, [tuple(entry) for entry in part.schedule])
        for part in plan_prompt(prompt, steps, **options)
    ]


def test_a_prompt_without_editing_is_one_entry():
    assert plan("a (cat:1.2)", 20) == [(1, [(20, (Segment("a "), Segment("cat", 1.2)))])]


def test_parts_have_schedules_of_their_own():
    assert plan("[a:b:0.5] AND (c) BREAK d :0.7", 10) == [
        (1, [(5, (Segment("a"),)), (10, (Segment("b"),))]),
        (0.7, [(10, (Segment(" "), Segment("c", 1.1), BREAK, Segment("d")))]),
    ]


def test_negative_prompts_are_edited_but_have_one_part():
    (part,) = plan_prompt("[a:b:2] AND c :0.7", 4, composition=False)
    assert part.at(4) == (Segment("b AND c :0.7"),)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_alternation_starts_with_its_first_option(steps):
    (part,) = plan_prompt("[a|b|c]", steps)
    assert [part.at(step)[0].text for step in range(1, steps + 1)] == [*"abcabca"][:steps]


def test_steps_outside_of_the_run_use_the_ends():
    (part,) = plan_prompt("[a:b:2]", 4)
    assert [part.at(step)[0].text for step in (0, 1, 2, 3, 4, 9)] == [*"aaabbb"]


def test_an_edit_of_a_weight():
    (part,) = plan_prompt("(x:[1.1:1.4:0.5])", 4)
    assert [part.at(step) for step in (2, 3)] == [(Segment("x", 1.1),), (Segment("x", 1.4),)]


def test_texts_that_differ_and_segments_that_do_not_are_one_entry():
    assert len(plan_prompt(r"[(x):(x:1.1):2]", 4)[0].schedule) == 1


@pytest.mark.parametrize("prompt", ["", r"(a:1.2) [b|c] AND \(d BREAK [e:f:2] :0.5", "(x:nan)", "(" * 500])
def test_plain_syntax_reads_nothing(prompt):
    assert plan(prompt, 4, syntax="plain") == [(1, [(4, (Segment(prompt),))])]


@pytest.mark.parametrize("steps", [0, -1])
def test_a_run_has_a_step(steps):
    with pytest.raises(InputError, match="steps"):
        plan_prompt("a", steps)


N = 100_000
WORKS = {
    "words": "a cat, " * (N // 7),
    "spaces": " " * N,
    "emoji": "🐈" * N,
    "right to left": "קיץ " * (N // 4),
    "NUL": "\0" * N,
    "lone surrogates": "\ud800" * N,
    "weights": "(a cat:1.2), " * 3000,
    "alternations": "[a|b]" * 2000,
    "alternatives": f"[{'|'.join(f'option {index}' for index in range(900))}]",
    "edits": "".join(f"[a:b:{index % 200}]" for index in range(2000)),
    "deep attention": "(" * 99 + "a[b]" * 3000 + ")" * 99,
    "deep alternation": "[" * 99 + "a|b]" * 99,
    "dots": f"(x:{'.' * N})",
    "digits of a step": f"[a:b:{'1' * N}]",
    "spaces around BREAK": (" " * 40_000 + "BREAK") * 2,
    "colons and spaces": ": " * 5000 + " " * 90_000,
}
REFUSED = {
    "characters": ("a" * 1_000_001, "1000001 characters"),
    "round brackets": ("(" * N, "100 brackets"),
    "square brackets": ("[" * N, "100 brackets"),
    "overlapping brackets": ("([)" * 101, "100 brackets"),
    "pairs": ("()" * (N // 2), "10000 brackets"),
    "closing brackets": (")" * N, "10000 brackets"),
    "escapes": (r"\(" * (N // 2), "10000 brackets"),
    "colons": (":a " * (N // 3), "10000 brackets"),
    "changes": ("a" * N + f"[{'|'.join(map(str, range(200)))}]", "changes so often"),
    "digits": (f"(x:{'9' * N})", "weight of inf"),
}


@pytest.mark.parametrize("prompt", WORKS.values(), ids=WORKS)
def test_large_prompts_are_read_at_once(prompt):
    start = time.perf_counter()
    assert plan_prompt(prompt, 200)
    assert (
        time.perf_counter() - start < 5
    )  # 0.1 s is usual; where time grows with the square of the length, minutes are


@pytest.mark.parametrize(("prompt", "message"), REFUSED.values(), ids=REFUSED)
def test_prompts_beyond_the_bounds_are_refused_at_once(prompt, message):
    start = time.perf_counter()
    with pytest.raises(InputError, match=message) as error:
        plan_prompt(prompt, 200, composition=False, called="negative prompt")
    assert time.perf_counter() - start < 5
    assert str(error.value).startswith("the negative prompt ")
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_the_number_of_parts_is_bounded():
    assert len(plan_prompt("a AND " * 99, 4)) == 100
    with pytest.raises(InputError, match="101 parts"):
        plan_prompt("a AND " * 100, 4)


def test_a_long_prompt_may_alternate():
    (part,) = plan_prompt("a" * 10_000 + "[b|c]", 200)
    assert len(part.schedule) == 200
