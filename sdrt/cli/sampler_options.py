"""The options that `generate` and `samplers` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sdrt.samplers import SigmaSchedule

OPTIONS = (
    click.option(
        "--spacing",
        type=click.Choice(["leading", "trailing", "linspace"]),
        help="Where timesteps lie.  [default: the model's]",
    ),
    click.option(
        "--sigma-schedule",
        type=click.Choice(["plain", "karras", "exponential", "beta"]),
        help="How noise levels are laid.  [default: the model's, plain]",
    ),
    click.option("--karras", is_flag=True, help="Short for --sigma-schedule karras."),
    click.option(
        "--schedule",
        metavar="NAME",
        help="Noise levels as AUTOMATIC1111 lays them: normal, karras, exponential, polyexponential, beta, "
        "simple, sgm_uniform, ddim_uniform, kl_optimal, linear_quadratic, align_your_steps or gits; "
        "comfyui:NAME as ComfyUI does.",
    ),
    click.option(
        "--sigmas",
        metavar="LIST",
        default="",
        show_default=False,
        callback=lambda context, option, text: numbers(text),
        help="Noise levels one by one, falling to 0: 14.6,4.9,1.6,0.5,0. They say how many steps there are.",
    ),
    click.option("--eta", type=float, help="Share of fresh noise, 0 to 1.  [default: the sampler's]"),
)


def sampler_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def numbers(text: str) -> tuple[float, ...]:
    """A list of numbers, with commas or blanks between them."""
    try:
        return tuple(float(one) for one in text.replace(",", " ").split())
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of numbers; write it as in 14.6,4.9,1.6,0") from None


def asked_sigma_schedule(sigma_schedule: SigmaSchedule | None, karras: bool) -> SigmaSchedule | None:
    """What --sigma-schedule and --karras say together. Raises InputError if they disagree."""
    from sdrt.errors import InputError

    if karras and sigma_schedule not in (None, "karras"):
        raise InputError(f"--karras and --sigma-schedule {sigma_schedule} exclude each other; leave one out")
    return "karras" if karras else sigma_schedule
