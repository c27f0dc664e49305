"""`sdrt bench`."""

from __future__ import annotations

import shlex
from collections.abc import Container
from pathlib import Path
from typing import Any

import click

from sdrt.cli.terminal import echo, echo_json, echo_path
from sdrt.errors import InputError, MissingExtraError

EXISTING = click.Path(path_type=Path, exists=True, dir_okay=False)


class _ScenarioGroup(click.Group):
    """What is no command is a scenario: `sdrt bench demo` is `sdrt bench run demo`; `--tune` is `tune`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["tune", *args[1:]] if args[:1] == ["--tune"] else args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_ScenarioGroup)
def bench() -> None:
    """Measure speed and sameness against what else makes the same pictures.

    \b
    sdrt bench demo
    sdrt bench my-scenario.toml -o report
    sdrt bench tune -m engines/my-model
    sdrt bench compare before/report.json after/report.json
    """


@bench.command()
@click.argument("scenario")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder.  [default: bench-SCENARIO]")
@click.option(
    "--models",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep what is exported for the scenario in this folder, for the next run.",
)
@click.option(
    "--python",
    "pythons",
    multiple=True,
    metavar="PEER=PATH",
    help="Run a peer with the Python of another environment, which needs msgspec and numpy beside the peer"
    " but not sdrt; may be given several times.",
)
@click.option("--rounds", type=click.IntRange(min=1), help="Instead of the scenario's.")
@click.option("--warm", type=click.IntRange(min=1), help="Pictures per round, instead of the scenario's.")
@click.option("--steps", type=click.IntRange(min=1), help="Instead of the scenario's.")
@click.option("--peer", "only", multiple=True, help="Only this peer, and the reference.")
def run(
    scenario: str,
    output: Path | None,
    models: Path | None,
    pythons: tuple[str, ...],
    rounds: int | None,
    warm: int | None,
    steps: int | None,
    only: tuple[str, ...],
) -> None:
    """Measure SCENARIO (a TOML file, or demo) and write report.json, report.md and report.html.

    Exits with 1 if a peer misses a gate of the scenario.
    """
    from sdrt_bench import report_files
    from sdrt_bench import scenario as scenarios
    from sdrt_bench.bench import bench as measure
    from sdrt_bench.elsewhere import check as check_python

    path = scenarios.find(scenario)
    asked = scenarios.adjusted(scenarios.read(path), rounds=rounds, warm=warm, steps=steps, only=only)
    elsewhere = dict(_split(python, asked.peers) for python in pythons)
    for interpreter in dict.fromkeys(elsewhere.values()):
        check_python(interpreter)
    folder = output or Path(f"bench-{path.stem}")
    folder.mkdir(parents=True, exist_ok=True)
    options = {"--rounds": rounds, "--warm": warm, "--steps": steps}
    words = ["sdrt", "bench", scenario]
    words += [word for name, value in options.items() if value is not None for word in (name, str(value))]
    words += [word for peer in only for word in ("--peer", peer)]
    words += [word for peer in elsewhere for word in ("--python", f"{peer}=PYTHON")]
    found, pictures = measure(
        asked,
        shlex.join(words),
        models=models,
        pythons=elsewhere,
        progress=lambda stage: echo(stage, err=True),
    )
    report_files.write(found, pictures, folder)
    for name in ("report.html", "report.md", "report.json"):
        echo_path(folder / name)
    for name, peer in found.peers.items():
        for why, said in (("absent", peer.absent), ("failed", peer.failed)):
            if said is not None:
                echo(f"{why}: {name}: {said}", err=True)
    for missed in found.missed:
        echo(f"missed: {missed}", err=True)
    if found.missed:
        raise SystemExit(1)


@bench.command("tune")
@click.option("-m", "--model", help="Bundle: a folder, or a name under engines/.  [default: the demo model]")
@click.option("-W", "--width", type=click.IntRange(min=1), help="Of pictures.  [default: the model's]")
@click.option("-H", "--height", type=click.IntRange(min=1), help="Of pictures.  [default: the model's]")
@click.option("--steps", type=click.IntRange(min=1), help="Of each picture.  [default: the model's]")
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True, help="Starts of each.")
@click.option(
    "--warm", type=click.IntRange(min=1), default=3, show_default=True, help="Timed pictures of each start."
)
@click.option(
    "--least-psnr",
    type=float,
    default=35.0,
    show_default=True,
    help="What pictures must reach against the reference's, in dB, to count as right.",
)
def tune_backends(
    model: str | None,
    width: int | None,
    height: int | None,
    least_psnr: float,
    **measuring: Any,
) -> None:
    """Measure every backend that opens here, for `sdrt generate --backend auto`.

    The reference is onnxruntime on the CPU, or what stands first where that is not installed.
    """
    from sdrt import choice
    from sdrt import manifest as manifests
    from sdrt.models import find_bundle
    from sdrt_bench import tune

    bundle = find_bundle(model)
    manifest = manifests.read(bundle / manifests.FILE_NAME)
    defaults = manifest.defaults
    size = {"width": width or defaults.width, "height": height or defaults.height}
    backends, left_out = tune.candidates(bundle, manifest, **size)
    if not backends:
        raise MissingExtraError("onnxruntime", "cpu")
    scenario = tune.scenario_of(bundle, manifest, backends, **size, **measuring)
    tuning = tune.tune(
        scenario, manifest, least_psnr=least_psnr, progress=lambda stage: echo(stage, err=True)
    )
    for line in tune.lines(tuning, left_out):
        echo(line)
    chosen = choice.choose(bundle, manifest, **size)
    echo(f"auto is {chosen.backend}, {chosen.why}")


@bench.command("compare")
@click.argument("before", type=EXISTING)
@click.argument("after", type=EXISTING)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def compare_reports(before: Path, after: Path, as_json: bool) -> None:
    """Show what changed from one report.json to another.

    A time counts as changed if the spreads of both, from the least to the 90th percentile, do not overlap.
    """
    import msgspec

    from sdrt_bench import report as reports
    from sdrt_bench.compare import compare
    from sdrt_bench.compare_table import lines

    found = compare(reports.read(before), reports.read(after))
    if as_json:
        echo_json(msgspec.to_builtins(found))
        return
    for line in lines(found):
        echo(line)


def _split(python: str, peers: Container[str]) -> tuple[str, str]:
    name, equals, path = python.partition("=")
    if not equals or name not in peers:
        raise InputError(f"--python {python} is not PEER=PATH with a peer of the scenario")
    return name, path
