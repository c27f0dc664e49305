"""How `sdrt generate` makes its pictures: size, steps, guidance, seeds."""

from __future__ import annotations

import click

from sdrt.cli.sampler_options import OPTIONS
from sdrt.cli.sections import Section

sampling_options = Section(
    "Sampling",
    click.option("-W", "--width", type=int, help="Pixels.  [default: the model's]"),
    click.option("-H", "--height", type=int, help="Pixels.  [default: the model's]"),
    click.option("--steps", type=int, help="Sampler steps.  [default: the model's]"),
    click.option(
        "-g",
        "--guidance",
        "guidance_scale",
        type=float,
        help="Guidance scale; 1 is none.  [default: the model's]",
    ),
    click.option("--sampler", metavar="NAME", help="As `sdrt samplers` lists them.  [default: the model's]"),
    *OPTIONS,
    click.option("--seed", type=int, default=-1, help="Picture i uses seed + i; -1 is a random seed."),
    click.option(
        "--variation-seed", type=int, metavar="SEED", help="Another seed, for pictures near the first's."
    ),
    click.option(
        "--variation-strength", type=float, metavar="X", help="How far to go to the other: 0 is none, 1 all."
    ),
    click.option("-n", "--count", type=int, default=1, help="How many pictures."),
    click.option(
        "--guidance-interval",
        nargs=2,
        type=float,
        default=(0.0, 1.0),
        metavar="FROM TO",
        help="Parts of the steps that are guided; the others take half the time.",
    ),
    click.option(
        "--deep-cache",
        type=int,
        default=1,
        metavar="N",
        help="Run the whole U-Net once in N evaluations; for bundles exported with --deep-cache.",
    ),
    click.option(
        "--no-limits",
        "limits",
        flag_value=False,
        default=True,
        is_flag=True,
        show_default=False,
        help="Allow more than 4 Mpixel, 200 steps or 100 pictures.",
    ),
)
