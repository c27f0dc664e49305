"""Where `sdrt generate` puts what it made."""

from __future__ import annotations

from pathlib import Path

import click

from sdrt.cli.sections import Section

output_options = Section(
    "Output",
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        help="PNG, JPEG or WebP to write, by its ending; or a pattern: {index:04}-{seed}-{prompt}.png. "
        "A name that exists gets a number.  [default: a PNG, from the prompt]",
    ),
    click.option(
        "--quality",
        type=click.IntRange(1, 100),
        default=95,
        help="Of JPEG and WebP, 1 to 100; WebP is lossless at 100.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print paths, settings and times as JSON."),
)
