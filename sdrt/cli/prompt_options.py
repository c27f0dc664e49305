"""How the prompt of `sdrt generate` is read."""

from __future__ import annotations

import click

from sdrt.cli.sections import Section

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
        "--prompt-syntax",
        type=click.Choice(["a1111", "plain"]),
        default="a1111",
        help="a1111: (weights:1.2), [a:b:0.5], AND, BREAK; plain: brackets are text.",
    ),
    click.option(
        "--clip-skip", type=int, help="Layer of the text encoder from the end.  [default: the model's]"
    ),
)
