"""`sdrt samplers`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sdrt.samplers import NoiseSchedule, PredictionType, Sampler, SamplerTable, Spacing


@click.command()
@click.argument("name", required=False)
@click.option(
    "-m", "--model", metavar="BUNDLE", help="Take the noise schedule of a bundle.  [default: SD 1.5's]"
)
@click.option("--steps", type=int, default=20, show_default=True, help="Sampler steps.")
@click.option(
    "--spacing",
    type=click.Choice(["leading", "trailing", "linspace"]),
    help="Where timesteps lie.  [default: the schedule's]",
)
@click.option("--karras", is_flag=True, help="Use Karras's noise levels.")
@click.option(
    "--prediction",
    type=click.Choice(["epsilon", "v_prediction", "sample"]),
    help="What the network predicts.  [default: the schedule's]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; for NAME with the whole response table.")
def samplers(
    name: str | None,
    model: str | None,
    steps: int,
    spacing: Spacing | None,
    karras: bool,
    prediction: PredictionType | None,
    as_json: bool,
) -> None:
    """List the samplers, or show NAME in numbers.

    With --json, NAME prints `timesteps` and `c_in` of each evaluation of the network, and `response`: its
    rows are the network inputs before scaling x_0 .. x_E (the last is the result), its columns the initial
    latents in the sampler's own scale, the predictions m_0 .. m_{E-1} and the noise drawn. So a sampler can
    be checked against any other implementation.
    """
    from sdrt.samplers import SAMPLERS, compile_sampler, find_sampler

    if name is None:
        _list(list(SAMPLERS.values()), as_json)
        return
    schedule = _schedule(model, prediction)
    sampler, named_karras = find_sampler(name)
    table = compile_sampler(name, schedule, steps, spacing=spacing, karras=karras)
    if as_json:
        settings = {
            "sampler": sampler.name,
            "steps": steps,
            "spacing": spacing or schedule.timestep_spacing,
            "karras": karras or named_karras,
            "prediction": schedule.prediction_type,
            "initial_scale": table.initial_scale,
        }
        numbers = {
            "timesteps": table.timesteps.tolist(),
            "c_in": table.c_in.tolist(),
            "response": table.response().tolist(),
        }
        click.echo(json.dumps({**settings, **numbers}))
    else:
        _show(sampler, table)


def _schedule(model: str | None, prediction: PredictionType | None) -> NoiseSchedule:
    import msgspec

    from sdrt import manifest as manifests
    from sdrt.models import find_bundle
    from sdrt.samplers import NoiseSchedule

    schedule = NoiseSchedule()
    if model is not None:
        schedule = manifests.read(find_bundle(model) / manifests.FILE_NAME).schedule
    if prediction is not None:
        schedule = msgspec.structs.replace(schedule, prediction_type=prediction)
    return schedule


def _list(entries: list[Sampler], as_json: bool) -> None:
    if as_json:
        fields = ("name", "title", "aliases", "order", "evaluations_per_step", "stochastic", "has_karras")
        click.echo(
            json.dumps([{field: getattr(entry, field) for field in fields} for entry in entries], indent=2)
        )
        return
    click.echo(
        f"{'name':12} {'title':12} {'order':>5} {'evaluations':>11}  {'noise':5}  {'karras':6}  also known as"
    )
    for entry in entries:
        noise, karras = ("yes" if flag else "no" for flag in (entry.stochastic, entry.has_karras))
        click.echo(
            f"{entry.name:12} {entry.title:12} {entry.order:5} {entry.evaluations_per_step:11}  "
            f"{noise:5}  {karras:6}  {', '.join(entry.aliases)}"
        )


def _show(sampler: Sampler, table: SamplerTable) -> None:
    click.echo(f"{sampler.title}: {table.evaluations} evaluations, initial scale {table.initial_scale:.6g}")
    click.echo(f"{'k':>4} {'timestep':>10} {'c_in':>10}")
    for k, (timestep, c_in) in enumerate(zip(table.timesteps, table.c_in, strict=True)):
        click.echo(f"{k:4} {timestep:10.3f} {c_in:10.6f}")
