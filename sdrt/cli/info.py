"""`sdrt info`."""

from __future__ import annotations

from pathlib import Path

import click

from sdrt.cli.info_picture import show_picture
from sdrt.cli.terminal import echo, echo_json
from sdrt.image_files import FORMATS


@click.command()
@click.argument("target", metavar="BUNDLE|IMAGE")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def info(target: str, as_json: bool) -> None:
    """Show what a bundle holds, or how a picture was made."""
    path = Path(target)
    if _is_file(path) or path.suffix.lower() in FORMATS:
        show_picture(path, as_json)
    else:
        _bundle(target, as_json)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long, a folder that may not be read
        return False


def _bundle(name: str, as_json: bool) -> None:
    import msgspec

    from sdrt import manifest as manifests
    from sdrt.models import find_bundle

    path = find_bundle(name)
    manifest = manifests.read(path / manifests.FILE_NAME)
    if as_json:
        echo_json(msgspec.to_builtins(manifest))
        return
    made, schedule, defaults = manifest.made_by, manifest.schedule, manifest.defaults
    size = sum(entry.size for entry in manifest.files.values())
    echo(f"{manifest.name}: {manifest.family}, {manifest.precision}, {size / 1e6:.1f} MB in {path}")
    source = made.source if made.revision is None else f"{made.source} at {made.revision}"
    tools = ", ".join(f"{tool} {version}" for tool, version in made.tools.items())
    echo(f"made from {source}, opset {made.opset}, with {tools}")
    echo(
        f"defaults: {defaults.width}x{defaults.height}, {defaults.steps} steps of {defaults.sampler}, "
        f"guidance {defaults.guidance_scale:g}"
    )
    noise = (
        f"flow shifted by {schedule.shift:g}"
        if schedule.prediction_type == "flow"
        else f"{schedule.beta_schedule} {schedule.beta_start}..{schedule.beta_end}"
        + (" to zero terminal SNR" if schedule.rescale_betas_zero_snr else "")
    )
    echo(
        f"schedule: {noise}, {schedule.prediction_type}, {schedule.timestep_spacing} spacing, "
        f"{schedule.sigma_schedule} noise levels"
    )
    latent_rgb = manifest.vae.latent_rgb
    previews = "none, decoded only" if latent_rgb is None else f"{latent_rgb.psnr:g} dB to decoded colours"
    echo(f"map from latents to RGB, for previews: {previews}")
    for graph, entry in manifest.graphs.items():
        echo("")
        echo(f"{graph}  {entry.path}")
        for kind, specs in (("in ", entry.inputs), ("out", entry.outputs)):
            for key, spec in specs.items():
                echo(f"  {kind} {key:24} {spec}")
        if not entry.fidelity:
            echo("  not compared with PyTorch")
        for measured in entry.fidelity:
            shapes = ", ".join("x".join(map(str, shape)) for shape in measured.inputs.values())
            echo(
                f"  against PyTorch at {shapes}: relative L2 {measured.relative_l2:.1e}, "
                f"largest difference {measured.max_abs:.1e}"
            )
