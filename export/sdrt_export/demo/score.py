"""Score a checkpoint or a bundle: `python -m sdrt_export.demo.score --checkpoint DIR`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import click

from .scoring import Generate, held_out_prompts, score

CHECKPOINT = Path(__file__).with_name("checkpoint")
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.option("--checkpoint", type=FOLDER, default=CHECKPOINT, help="Folder in diffusers layout.")
@click.option("--bundle", type=FOLDER, help="Score this exported bundle through the sdrt runtime instead.")
@click.option("--steps", type=click.IntRange(min=1), help="Instead of the checkpoint's default.")
@click.option("--guidance", type=float, help="Instead of the checkpoint's default.")
@click.option(
    "--sampler", type=click.Choice(["ddim", "euler", "dpmpp_2m"]), help="Instead of the checkpoint's default."
)
@click.option("--spacing", type=click.Choice(["leading", "trailing", "linspace"]))
@click.option(
    "--composition",
    is_flag=True,
    help="Score prompts that AND joins, and drawings that are to take another colour; wants --bundle.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def main(
    checkpoint: Path,
    bundle: Path | None,
    steps: int | None,
    guidance: float | None,
    sampler: str | None,
    spacing: str | None,
    composition: bool,
    as_json: bool,
) -> None:
    """Say how many pictures of held-out combinations are right, in percent."""
    changes = {"steps": steps, "guidance_scale": guidance, "sampler": sampler, "spacing": spacing}
    given = {name: value for name, value in changes.items() if value is not None}
    if bundle is not None and given:
        raise click.UsageError("a bundle is scored with its own defaults: leave out " + ", ".join(given))
    if composition:
        scores = _composition(bundle)
    else:
        scores = asdict(score(_generator(checkpoint, bundle, given), held_out_prompts()))
    if as_json:
        click.echo(json.dumps(scores))
        return
    width = max(map(len, scores))
    for name, share in scores.items():
        click.echo(f"{name:{width}} {100 * share:5.1f} %")


def _composition(bundle: Path | None) -> dict[str, float]:
    from sdrt import Pipeline

    from .composition import score_composition

    if bundle is None:
        raise click.UsageError("composition is scored with the runtime: name a folder with --bundle")
    return score_composition(Pipeline.load(bundle))


def _generator(checkpoint: Path, bundle: Path | None, given: Mapping[str, object]) -> Generate:
    from .generators import Settings, from_bundle, from_pipeline, load_pipeline

    if bundle is not None:
        return from_bundle(bundle)
    return from_pipeline(load_pipeline(checkpoint), replace(Settings.of(checkpoint), **given))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
