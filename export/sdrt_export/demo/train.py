"""Train the demo model: `python -m sdrt_export.demo.train --out RUN`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from .training import Log

STAGES = ("data", "vae", "text", "unet", "compose")
SINGLES, PAIRS = 40_000, 50_000


def run_stage(stage: str, out: Path, device: str, seed: int, steps: int | None, log: Log) -> None:
    """Run one stage on what the stages before it left in `out`."""
    from .data import draw_dataset, load_dataset
    from .train_compose import train_compose
    from .train_text import train_text
    from .train_unet import train_unet
    from .train_vae import train_vae

    if stage == "data":
        draw_dataset(out / "data", SINGLES, PAIRS, seed)
    elif stage == "vae":
        train_vae(load_dataset(out / "data"), out, device, seed, steps, log)
    elif stage == "text":
        train_text(out, device, seed, steps, log)
    elif stage == "unet":
        train_unet(load_dataset(out / "data"), out, device, seed, steps, log)
    else:
        train_compose(load_dataset(out / "data"), out, device, seed, steps, log)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--stage", type=click.Choice([*STAGES, "all"]), default="all", show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Training steps of the stage, instead of its own.")
def main(out: Path, stage: str, device: str, seed: int, steps: int | None) -> None:
    """Train all stages, or one; a stage that was stopped goes on from its last save."""
    started = time.monotonic()

    def log(message: str) -> None:
        click.echo(f"{time.monotonic() - started:7.0f} s  {message}")

    for name in STAGES if stage == "all" else (stage,):
        log(f"stage {name}")
        run_stage(name, out, device, seed, steps, log)


if __name__ == "__main__":
    main()
