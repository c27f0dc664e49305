"""How the prompt of `sdrt generate` is read."""

from __future__ import annotations

from typing import Any

import click

from sdrt.cli.sections import Section


class _Weighted(click.ParamType[Any]):
    """A text and its weight, 1 if it has none: `a frog:0.5`."""

    name = "TEXT[:WEIGHT]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        text, colon, weight = value.rpartition(":")
        try:
            return (text, float(weight)) if colon else (value, 1.0)
        except ValueError:
            return (value, 1.0)


prompt_options = Section(
    "Prompt",
    click.option(
        "-N",
        "--negative",
        "negative_prompt",
        metavar="TEXT",
        default="",
        show_default=False,
        help="What the picture should not show.",
    ),
    click.option(
        "--zero-negative",
        is_flag=True,
        help="Guide away from text states of zero, in place of a negative prompt's.",
    ),
    click.option(
        "--prompt-syntax",
        type=click.Choice(["a1111", "plain"]),
        default="a1111",
        help="a1111: (weights:1.2), [a:b:0.5], AND, BREAK; plain: brackets are text.",
    ),
    click.option(
        "--blend",
        type=_Weighted(),
        multiple=True,
        help="In place of PROMPT, several: the average of their embeddings is drawn.",
    ),
    click.option(
        "--clip-skip", type=int, help="Layer of the text encoder from the end.  [default: the model's]"
    ),
)
