"""What each peer is given to run: a bundle of the scenario's source, or the checkpoint itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sdrt.errors import InputError
from sdrt.manifest import Precision
from sdrt.models import find_bundle
from sdrt_bench.peers import PeerStart
from sdrt_bench.scenario import PeerSettings, Scenario


def prepare(scenario: Scenario, folder: Path, progress: Callable[[str], None]) -> dict[str, PeerStart]:
    """What to start each peer with. Bundles that the scenario does not name are exported into `folder`.

    Raises InputError for a source that is no folder, and what an export raises.
    """
    return {
        name: PeerStart(
            runner=settings.runner,
            precision=settings.precision,
            backend=settings.backend,
            model=str(_model(scenario, settings, folder, progress).resolve()),
        )
        for name, settings in scenario.peers.items()
    }


def _model(scenario: Scenario, settings: PeerSettings, folder: Path, progress: Callable[[str], None]) -> Path:
    if settings.runner != "sdrt":
        return _checkpoint(scenario.source)
    if settings.bundle is not None:
        return find_bundle(settings.bundle)
    # a backend that computes in bf16 does so with the weights of the fp32 bundle
    precision: Precision = "fp16" if settings.precision == "fp16" else "fp32"
    target = folder / precision
    if not target.exists():
        from sdrt_export import export

        progress(f"exporting {scenario.source} in {precision}")
        export(scenario.source, target, precision=precision)
    return target


def _checkpoint(source: str) -> Path:
    if source == "demo":
        from sdrt_export.sources import DEMO_FOLDER

        return DEMO_FOLDER
    if not Path(source).is_dir():
        raise InputError(f"{source} is no folder; peers take one in diffusers layout, or demo")
    return Path(source)
