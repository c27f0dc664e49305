"""What each peer is given to run: a bundle of the scenario's source, or the checkpoint itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sdrt import manifest as manifests
from sdrt.engines import RECORD, EngineKind
from sdrt.errors import BackendUnavailableError, MissingExtraError
from sdrt.manifest import Precision
from sdrt.models import find_bundle
from sdrt.profiles import Range
from sdrt_bench.made_whole import made_whole
from sdrt_bench.peers import PeerStart
from sdrt_bench.scenario import PeerSettings, Scenario
from sdrt_export.engine_builders import BUILDERS, BuilderOptions, open_builder
from sdrt_export.engine_shapes import Shapes
from sdrt_export.engines import build_engines

_AUTOTUNED = 4  # the builder's level


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How bundles are made. verify: each graph is compared with PyTorch. jobs: engines built at a time."""

    verify: bool = True
    jobs: int = 1


EXACTING = Preparation()


def prepare(
    scenario: Scenario,
    folder: Path,
    progress: Callable[[str], None],
    how: Preparation = EXACTING,
) -> dict[str, PeerStart]:
    """What to start each peer with. What has to be exported or written goes into `folder`.

    A bundle, a checkpoint or an engine that is there from an earlier run is used again.
    Raises InputError for a source that makes no pictures of a prompt, and what an export raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return {
        name: PeerStart(
            runner=settings.runner,
            precision=settings.precision,
            backend=settings.backend,
            model=str(_model(scenario, settings, folder, progress, how).resolve()),
            guidance_interval=settings.guidance_interval,
            deep_cache=settings.deep_cache,
            device=settings.device,
            cuda_graphs=settings.cuda_graphs,
            autotune=settings.autotune,
        )
        for name, settings in scenario.peers.items()
    }


def _model(
    scenario: Scenario,
    settings: PeerSettings,
    folder: Path,
    progress: Callable[[str], None],
    how: Preparation,
) -> Path:
    name = Path(scenario.source).stem.replace(":", "-")
    if settings.runner != "sdrt":
        from sdrt_bench.checkpoint_folder import checkpoint_folder

        return checkpoint_folder(scenario.source, folder / f"{name}-checkpoint", progress)
    if settings.bundle is not None:
        return find_bundle(settings.bundle)  # with the engines that it has
    # a backend that computes in bf16 does so with the weights of the fp32 bundle
    precision: Precision = "fp16" if settings.precision == "fp16" else "fp32"
    # one bundle for all: that it can reuse deep features costs those nothing who do not
    deep_cache = any(peer.deep_cache > 1 and peer.bundle is None for peer in scenario.peers.values())
    target = folder / f"{name}-{precision}{'-deep-cache' if deep_cache else ''}"
    if not target.exists():
        from sdrt_export import export

        progress(f"exporting {scenario.source} in {precision}")
        export(
            scenario.source, target, precision=precision, deep_cache=deep_cache, verify=how.verify,
            progress=progress,
        )  # fmt: skip
    if settings.autotune:
        # a bundle has one engine of a graph and a shape
        plain, target = target, target.with_name(f"{target.name}-autotuned")
        if not target.exists():
            with made_whole(target) as making:
                shutil.copytree(plain, making, dirs_exist_ok=True, ignore=_engine_folders)
    _build_engines(scenario, settings, target, progress, how)
    return target


def _engine_folders(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder, name, RECORD).is_file()]


def _build_engines(
    scenario: Scenario,
    settings: PeerSettings,
    bundle: Path,
    progress: Callable[[str], None],
    how: Preparation,
) -> None:
    """Those that a backend runs, for the scenario's shape and each batch and size that it is scaled to.

    Where the library or the device is missing nothing is built: the peer itself says so when it starts.
    """
    kind = settings.backend.partition(":")[0]
    if kind not in BUILDERS:
        return
    scaling = scenario.scaling
    batches = {scenario.batch, *(scaling.batch if scaling else ())}
    sizes = {
        (scenario.width, scenario.height),
        *((size, size) for size in (scaling.sizes if scaling else ())),
    }
    try:
        options = BuilderOptions(level=_AUTOTUNED if settings.autotune and settings.on_gpu else None)
        builder = open_builder(cast("EngineKind", kind), options)
    except (BackendUnavailableError, MissingExtraError):
        return
    static = settings.guidance_interval is None  # else the number of rows changes
    guided = scenario.guidance_scale > 1
    shapes = [
        Shapes(
            width=Range.at(width),
            height=Range.at(height),
            batch=Range.at(batch),
            static=static,
            guided=guided,
        )
        for batch in sorted(batches)
        for width, height in sorted(sizes)
    ]
    # kernels that are timed while others are built are timed wrongly
    jobs = 1 if settings.autotune else how.jobs
    # pictures are made of prompts alone
    wanted = {"step", "latents", "pixels", *manifests.read(bundle / manifests.FILE_NAME).graphs}
    build_engines(bundle, builder, shapes, progress, only=wanted - {"vae_encoder"}, jobs=jobs)
