"""The pictures that peers are compared by, and how near they are to the reference's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import isinf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdrt import manifest as manifests
from sdrt_bench.image_quality import psnr, ssim
from sdrt_bench.peers import Job, Kept
from sdrt_bench.peers.process import PeerAbsentError, PeerFailedError, Session
from sdrt_bench.report import GraphFidelity, Quality
from sdrt_bench.scenario import PeerSettings, Scenario
from sdrt_bench.speed import Open, Progress, Rounds, job_of

RIGHT = "colour_shape_background"

Pictures = Mapping[tuple[str, str], Kept]  # by name of the picture, and sampler


def picture_jobs(scenario: Scenario) -> Iterator[tuple[tuple[str, str], Job]]:
    """Prompts x seeds x samplers."""
    settings = scenario.fidelity
    samplers = settings.samplers or (scenario.sampler,)
    for prompt, seed, sampler in product(settings.prompts, settings.seeds, samplers):
        job = job_of(scenario, prompt=prompt, seed=seed, sampler=sampler, batch=1)
        yield (f"{prompt}, seed {seed}, {sampler}", sampler), job


def make_pictures(
    scenario: Scenario, session: Session, folder: Path
) -> tuple[dict[tuple[str, str], Kept], dict[str, str]]:
    """All of them, by a session whose model is loaded; and by sampler why its pictures cannot be compared."""
    pictures: dict[tuple[str, str], Kept] = {}
    uncompared: dict[str, str] = {}
    for (name, sampler), job in picture_jobs(scenario):
        if sampler in uncompared:
            continue
        kept, why = _run(session, job, folder)
        if why is None:
            pictures[name, sampler] = kept
        else:
            uncompared[sampler] = why
    return pictures, uncompared


def pictures_of_all(
    scenario: Scenario, rounds: Rounds, open_peer: Open, folder: Path, progress: Progress
) -> tuple[dict[str, dict[tuple[str, str], Kept]], dict[str, dict[str, float]], dict[str, dict[str, str]]]:
    """By peer: the pictures, the demo model's scores, and by sampler why there are no pictures of it.

    A peer that fails is noted in `rounds`.
    """
    pictures: dict[str, dict[tuple[str, str], Kept]] = {}
    scores: dict[str, dict[str, float]] = {}
    uncompared: dict[str, dict[str, str]] = {}
    for name in list(rounds.measured):
        progress(f"pictures: {name}")
        try:
            with open_peer(name) as session:
                session.load()
                pictures[name], uncompared[name] = make_pictures(scenario, session, folder)
                scores[name] = demo_scores(scenario, session, folder) if pictures[name] else {}
        except (PeerAbsentError, PeerFailedError) as error:
            rounds.failed[name] = str(error)
            pictures.pop(name, None)
    return pictures, scores, uncompared


def keep(session: Session, job: Job, folder: Path) -> Kept:
    """Run a job and read what it made."""
    return _run(session, job, folder)[0]


def _run(session: Session, job: Job, folder: Path) -> tuple[Kept, str | None]:
    import msgspec

    file = folder / "kept.npz"
    generated, _ = session.generate(msgspec.structs.replace(job, keep=str(file)))
    with np.load(file) as arrays:
        return Kept(pixels=arrays["pixels"], latents=arrays["latents"]), generated.uncompared


def demo_scores(scenario: Scenario, session: Session, folder: Path) -> dict[str, float]:
    """Shares of the demo model's pictures that are right in colour, background, shape, and in all three."""
    from sdrt_export.demo.judge import look
    from sdrt_export.demo.scoring import held_out_prompts, judge_one

    marks: list[dict[str, bool]] = []
    for prompt in held_out_prompts(one=scenario.fidelity.scored, sides=0, two=0):
        kept = keep(session, job_of(scenario, prompt=prompt.text, seed=prompt.seed, batch=1), folder)
        marks.append(judge_one(prompt.scene, look(kept.pixels[0])))
    names = ("colour", "background", "shape", RIGHT)
    return {name: float(np.mean([one[name] for one in marks])) for name in names} if marks else {}


def compare(pictures: Pictures, reference: Pictures, scores: dict[str, float]) -> Quality:
    """Every picture against the reference's of the same name."""
    ratios = {
        name: psnr(one.pixels[0], reference[name, by].pixels[0]) for (name, by), one in pictures.items()
    }
    samplers = dict.fromkeys(by for _, by in pictures)
    return Quality(
        psnr={name: None if isinf(ratio) else ratio for name, ratio in ratios.items()},
        ssim={
            name: ssim(one.pixels[0], reference[name, by].pixels[0]) for (name, by), one in pictures.items()
        },
        divergence={
            sampler: _mean_curve(
                [
                    _rms(one.latents, reference[key].latents)
                    for key, one in pictures.items()
                    if key[1] == sampler
                ]
            )
            for sampler in samplers
        },
        scores=scores,
    )


def _rms(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """[steps] root mean square difference of latents [steps, C, h, w]."""
    difference: NDArray[Any] = np.sqrt(np.mean((a.astype(np.float64) - b) ** 2, axis=(1, 2, 3)))
    return difference


def _mean_curve(curves: list[NDArray[Any]]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.mean(curves, axis=0))


def graph_fidelity(bundle: Path) -> dict[str, GraphFidelity]:
    """What a bundle's manifest says of its graphs, the worst of several measurements."""
    graphs = manifests.read(bundle / manifests.FILE_NAME).graphs
    return {
        name: GraphFidelity(
            relative_l2=max(one.relative_l2 for one in entry.fidelity),
            max_abs=max(one.max_abs for one in entry.fidelity),
            cosine=min(one.cosine for one in entry.fidelity),
            tolerance=entry.tolerance,
        )
        for name, entry in graphs.items()
        if entry.fidelity
    }


def missed_gates(
    settings: PeerSettings, quality: Quality | None, graphs: Mapping[str, GraphFidelity]
) -> tuple[str, ...]:
    """What a peer misses of what the scenario and its bundle demand; not measured is missed."""
    missed = [
        f"{name} differs from PyTorch by {one.relative_l2:.2g}, more than {one.tolerance:g}"
        for name, one in graphs.items()
        if one.tolerance is not None and not one.relative_l2 <= one.tolerance
    ]
    demanded = {settings.least_psnr, settings.least_ssim, settings.least_right} != {None}
    if quality is None:
        return (*missed, "its pictures were not compared") if demanded else tuple(missed)
    if settings.least_psnr is not None and not quality.least_psnr >= settings.least_psnr:
        missed.append(f"PSNR {quality.least_psnr:.1f} dB, below {settings.least_psnr:g}")
    if settings.least_ssim is not None and not quality.least_ssim >= settings.least_ssim:
        missed.append(f"SSIM {quality.least_ssim:.4f}, below {settings.least_ssim:g}")
    if settings.least_right is not None:
        right = quality.scores.get(RIGHT)
        if right is None:
            missed.append("its pictures were not judged; set fidelity.scored")
        elif not right >= settings.least_right:
            missed.append(f"{right:.0%} of its pictures are right, below {settings.least_right:.0%}")
    return tuple(missed)
