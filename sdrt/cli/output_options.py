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
        help="PNG to write, or a pattern: {index:04}-{seed}-{prompt}.png; a name that exists gets a number.  "
        "[default: from the prompt]",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print paths, settings and times as JSON."),
)
