"""Which backend is the quickest that is right, for one bundle, size and machine: `sdrt bench tune`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from sdrt import choice
from sdrt.backends import BACKENDS, open_runtime
from sdrt.choice import Trial, Tuning
from sdrt.errors import SdrtError
from sdrt.manifest import Manifest
from sdrt_bench import quality
from sdrt_bench.models import prepare
from sdrt_bench.peers.process import PeerProcess, Session
from sdrt_bench.scenario import FidelitySettings, PeerSettings, Scenario
from sdrt_bench.speed import Progress, run_rounds

PROMPT = "a large red circle on a blue background"
SEEDS = (1, 2)


def candidates(bundle: Path, manifest: Manifest, width: int, height: int) -> tuple[list[str], dict[str, str]]:
    """Backends to measure, each once under its full name, and why the others are not."""
    opened: dict[str, None] = {}
    left_out: dict[str, str] = {}
    for name in BACKENDS:
        try:
            full = open_runtime(name).name
        except SdrtError as error:
            left_out[name] = str(error)
            continue
        if choice.has_engines(full, bundle, manifest, width, height):
            opened[full] = None
        else:
            family = full.partition(":")[0]
            left_out[name] = f"no engines for {width}x{height}; sdrt export {bundle} --engine {family}"
    return list(opened), left_out


def scenario_of(
    bundle: Path,
    manifest: Manifest,
    backends: Sequence[str],
    *,
    width: int,
    height: int,
    steps: int | None,
    rounds: int,
    warm: int,
) -> Scenario:
    """The bundle with each backend, against the first, which is the reference."""
    defaults = manifest.defaults
    return Scenario(
        title=f"backends for {manifest.name}",
        source=str(bundle),
        prompt=PROMPT,
        width=width,
        height=height,
        sampler=defaults.sampler,
        guidance_scale=defaults.guidance_scale,
        reference=backends[0],
        peers={
            name: PeerSettings(runner="sdrt", backend=name, bundle=str(bundle.resolve())) for name in backends
        },
        fidelity=FidelitySettings(prompts=(PROMPT,), seeds=SEEDS),
        steps=steps or defaults.steps,
        rounds=rounds,
        warm=warm,
    )


def tune(scenario: Scenario, manifest: Manifest, *, least_psnr: float, progress: Progress) -> Tuning:
    """Measure and compare the scenario's backends, one process at a time and in turn, and remember it.

    Raises SdrtError if the reference makes no pictures.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        starts = prepare(scenario, folder, progress)

        def open_peer(backend: str) -> Session:
            return PeerProcess(starts[backend])

        rounds = run_rounds(scenario, open_peer, progress)
        pictures, _, _ = quality.pictures_of_all(scenario, rounds, open_peer, folder, progress)
    reference = scenario.reference
    if reference not in pictures:
        why = rounds.absent.get(reference) or rounds.failed.get(reference)
        raise SdrtError(f"the reference {reference} makes no pictures: {why}")
    trials = []
    for backend, made in pictures.items():
        psnr = quality.compare(made, pictures[reference], {}).least_psnr
        trials.append(
            Trial(
                backend=backend,
                versions=choice.installed(backend),
                seconds=rounds.measured[backend].speed(scenario.batch).picture.median,
                psnr=None if psnr == float("inf") else psnr,
                right=psnr >= least_psnr,
            )
        )
    for backend, why in (*rounds.absent.items(), *rounds.failed.items()):
        progress(f"failed: {backend}: {why}")
    tuning = Tuning(
        machine=choice.machine_digest(),
        graphs=choice.graphs_digest(manifest),
        width=scenario.width,
        height=scenario.height,
        date=datetime.now(UTC).date().isoformat(),
        reference=reference,
        trials=tuple(trials),
    )
    choice.remember(tuning)
    return tuning


def lines(tuning: Tuning, left_out: Mapping[str, str]) -> Iterator[str]:
    """For people: the quickest first."""
    for one in sorted(tuning.trials, key=lambda one: one.seconds):
        near = "equal pictures" if one.psnr is None else f"{one.psnr:.1f} dB"
        near = "the reference" if one.backend == tuning.reference else near
        wrong = "" if one.right else ", not near enough"
        yield f"{one.backend:20} {one.seconds:8.3g} s a picture   {near}{wrong}"
    for name, why in left_out.items():
        yield f"{name:20} not measured: {why}"
