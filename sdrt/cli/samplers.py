"""`sdrt samplers`."""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING, Any

import click

from sdrt.cli.sampler_options import asked_sigma_schedule, sampler_options

if TYPE_CHECKING:
    from sdrt.samplers import NoiseSchedule, PredictionType, Sampler, SamplerTable, SigmaSchedule, Spacing
    from sdrt.samplers.schedules import Model


@click.command()
@click.argument("name", required=False)
@click.option(
    "-m", "--model", metavar="BUNDLE", help="Take the noise schedule of a bundle.  [default: SD 1.5's]"
)
@click.option("--steps", type=int, default=20, show_default=True, help="Sampler steps.")
@click.option(
    "--start", type=int, default=0, show_default=True, help="First step to take, as image to image does."
)
@sampler_options
@click.option(
    "--prediction",
    type=click.Choice(["epsilon", "v_prediction", "sample", "flow"]),
    help="What the network predicts.  [default: the schedule's]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; for NAME with the whole response table.")
def samplers(
    name: str | None,
    model: str | None,
    steps: int,
    start: int,
    spacing: Spacing | None,
    sigma_schedule: SigmaSchedule | None,
    karras: bool,
    schedule: str | None,
    sigmas: tuple[float, ...],
    eta: float | None,
    prediction: PredictionType | None,
    as_json: bool,
) -> None:
    """List the samplers, or show the noise levels of NAME.

    With --json, NAME prints `timesteps`, `c_in`, `alphas` and `sigmas` of each evaluation of the network, and
    `response`: its rows are the network inputs before scaling x_0 .. x_E (the last is the result), its
    columns the initial latents in the sampler's own scale, the predictions m_0 .. m_{E-1} and the noise
    drawn. So a sampler can be checked against any other implementation.
    """
    from sdrt.samplers import SAMPLERS, compile_sampler, find_sampler, given_levels, schedule_name

    if name is None:
        _list(list(SAMPLERS.values()), as_json)
        return
    sampler, named = find_sampler(name)
    trained, kind = _schedule(model, prediction, sampler)
    sigma_schedule = asked_sigma_schedule(sigma_schedule, karras) or named
    if sigmas:
        steps = len(given_levels(sigmas).sigmas) - 1
    table = compile_sampler(
        sampler.name,
        trained,
        steps,
        levels=sigmas or schedule,
        model=kind,
        spacing=spacing,
        sigma_schedule=sigma_schedule,
        eta=eta,
        start=start,
    )
    if not as_json:
        _show(sampler, table)
        return
    inherited = trained.sigma_schedule if sampler.has_sigma_schedules else "plain"
    laid = bool(sigmas) or schedule is not None
    settings = {
        "sampler": sampler.name,
        "steps": steps,
        "start": start,
        "spacing": (spacing or trained.timestep_spacing) if len(sampler.spacings) > 1 and not laid else None,
        "sigma_schedule": "plain" if laid else sigma_schedule or inherited,
        "schedule": None if schedule is None else schedule_name(schedule),
        "eta": sampler.eta if eta is None else eta,
        "prediction": trained.prediction_type,
        "initial_scale": table.initial_scale,
    }
    click.echo(json.dumps({**settings, **_numbers(table)}))


def _numbers(table: SamplerTable) -> dict[str, Any]:
    names = ("timesteps", "c_in", "alphas", "sigmas")
    return {
        **{name: getattr(table, name).tolist() for name in names},
        "response": table.response().tolist(),
    }


def _schedule(
    model: str | None, prediction: PredictionType | None, sampler: Sampler
) -> tuple[NoiseSchedule, Model]:
    """What a bundle's model was trained with, and which published levels are its own."""
    import msgspec

    from sdrt import manifest as manifests
    from sdrt.models import find_bundle
    from sdrt.samplers import NoiseSchedule

    schedule = NoiseSchedule()
    kind: Model = "sd1"
    if model is not None:
        manifest = manifests.read(find_bundle(model) / manifests.FILE_NAME)
        schedule, kind = manifest.schedule, manifest.published_levels
    elif schedule.prediction_type not in sampler.predictions:  # without a model, one that the sampler is for
        schedule = msgspec.structs.replace(schedule, prediction_type=sampler.predictions[0])
    if prediction is not None:
        schedule = msgspec.structs.replace(schedule, prediction_type=prediction)
    return schedule, kind


def _list(entries: list[Sampler], as_json: bool) -> None:
    if as_json:
        fields = (
            "name",
            "title",
            "aliases",
            "order",
            "evaluations_per_step",
            "stochastic",
            "eta",
            "spacings",
            "has_sigma_schedules",
            "predictions",
        )
        click.echo(
            json.dumps([{field: getattr(entry, field) for field in fields} for entry in entries], indent=2)
        )
        return
    click.echo(
        f"{'name':18} {'title':20} {'order':>5} {'evaluations':>11}  {'noise':5}  {'eta':>3}  also known as"
    )
    for entry in entries:
        noise, eta = "yes" if entry.stochastic else "no", "" if entry.eta is None else f"{entry.eta:g}"
        click.echo(
            f"{entry.name:18} {entry.title:20} {entry.order:5} {entry.evaluations_per_step:11}  "
            f"{noise:5}  {eta:>3}  {', '.join(entry.aliases)}".rstrip()
        )
    click.echo("\nEvaluations are per step. Names may end in Karras, Exponential or Beta.")


def _show(sampler: Sampler, table: SamplerTable) -> None:
    """A row for each evaluation, with a bar for its noise: from the least to the most, in the logarithm."""
    click.echo(f"{sampler.title}: {table.evaluations} evaluations, initial scale {table.initial_scale:.6g}\n")
    ratios = [
        sigma / alpha if alpha > 0 else math.inf
        for alpha, sigma in zip(table.alphas, table.sigmas, strict=True)
    ]
    width = max(shutil.get_terminal_size().columns - 32, 10)
    click.echo(f"{'':4} {'timestep':>10} {'noise/signal':>13}")
    for k, (timestep, ratio, bar) in enumerate(
        zip(table.timesteps, ratios, _bars(ratios, width), strict=True)
    ):
        noise = "~" if table.noisy[k] else " "
        click.echo(f"{k:4} {timestep:10.3f} {ratio:13.5f} {noise} {bar}")
    if table.noisy.any():
        click.echo("\n~ draws noise")


def _bars(values: list[float], width: int) -> list[str]:
    """Bars of up to `width` characters, in eighths of one; what is infinite fills the line."""
    logs = [math.log(value) for value in values if math.isfinite(value)]
    low, high = min(logs, default=0.0), max(logs, default=1.0)
    bars = []
    for value in values:
        share = (math.log(value) - low) / ((high - low) or 1.0) if math.isfinite(value) else 1.0
        eighths = max(round(share * width * 8), 1)
        bars.append("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip())
    return bars
