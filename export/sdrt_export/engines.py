"""Engines of a bundle: which there are to build, and how each comes to its place.

An engine is written beside its final name and renamed; then the record names it. A build that was killed
keeps what it had finished, and the next one goes on from there.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sdrt import graphs
from sdrt.bundle import Bundle, sha256
from sdrt.engines import Engine, EngineFolder, EngineKind, built_here, bundle_graph, engine_key
from sdrt.onnx_signature import Signature, read_signature
from sdrt.private_files import protect
from sdrt.profiles import Profile, ShapeRange, input_ranges
from sdrt.verified import VerifiedFiles, cache_folder

from . import filesystem
from .engine_shapes import Shapes
from .staging import locked

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class EngineTask:
    """One engine to build.

    graph: its name. path: its ONNX file. inputs: the shapes it must take. small: a handful of operators,
    without weights. bundle: whose it is.
    """

    bundle: Bundle
    graph: str
    path: Path
    digest: str
    signature: Signature
    inputs: Mapping[str, ShapeRange]
    small: bool


class EngineBuilder(Protocol):
    """What turns a graph into an engine of this machine.

    settings: all that decides what comes out beside graph, profile, machine and version.
    """

    kind: EngineKind
    architecture: str
    version: str
    settings: Mapping[str, str]

    def build(self, task: EngineTask, target: Path, progress: Progress) -> dict[str, int]:
        """Write an engine to `target`; returns how many layers compute in which precision.

        Raises ExportError if the library refuses, or if the engine is not in the precision of its graph.
        """
        ...


def build_engines(
    bundle: Path,
    builder: EngineBuilder,
    shapes: Shapes | Sequence[Shapes],
    progress: Progress = lambda stage: None,
    *,
    only: Collection[str] = (),
    jobs: int = 1,
) -> Path:
    """Build the missing engines of one kind, for one or several shapes; returns their folder.

    only: names of graphs; all that a pipeline runs if empty. jobs: engines to build at the same time, each
    in a process of its own; for builders that measure kernels on the device leave it at 1.
    Raises BundleError if the bundle is damaged; InputError if the shapes do not fit it; ExportError if the
    library refuses, or another export to the bundle is running.
    """
    remembered = VerifiedFiles(cache_folder() / "verified.json")
    opened = Bundle.open(bundle.resolve(), remembered=remembered, progress=progress)
    profiles = [one.profile(opened.manifest) for one in ([shapes] if isinstance(shapes, Shapes) else shapes)]
    folder = EngineFolder(
        bundle=opened.path, kind=builder.kind, architecture=builder.architecture, version=builder.version
    )
    wanted = [
        _Wanted.of(task, profile, folder, builder)
        for profile in profiles
        for task in _tasks(opened, profile)
        if not only or task.graph in only
    ]
    if all(one.is_built(folder) for one in wanted):  # while another export may be building others
        progress("all engines were built already")
        return folder.path
    with locked(opened.path):
        folder.path.mkdir(exist_ok=True)
        protect(folder.path)
        for leftover in folder.path.glob(".*"):
            leftover.unlink()
        missing = []
        for one in wanted:
            if one.is_built(folder):
                progress(f"{one.task.graph}: built already")
            elif not one.copy_twin(folder, builder, progress):
                missing.append(one)
        _build_all(missing, folder, builder, progress, jobs)
    return folder.path


def _tasks(bundle: Bundle, profile: Profile) -> Iterator[EngineTask]:
    """The graphs that a pipeline runs, the longest to build first: what is refused is refused soon."""
    manifest = bundle.manifest
    # for few pictures an FP32 decoder is worth neither the time to build it nor its memory
    names = [name for name in manifest.graphs if name != "vae_decoder_fp32"]
    unet, vae = manifest.graphs["unet"], manifest.graphs["vae_decoder"]
    paths = [bundle.path / manifest.graphs[name].path for name in sorted(names, key=_SLOWEST.index)]
    network, decoder = unet.inputs["sample"].dtype, vae.inputs["latent_sample"].dtype
    paths += [graphs.path("step", network), graphs.path("latents", decoder), graphs.path("pixels", decoder)]
    for path in paths:
        name, digest = bundle_graph(bundle, path, graphs.FOLDER)
        signature = read_signature(path)
        yield EngineTask(
            bundle=bundle,
            graph=name,
            path=path,
            digest=digest,
            signature=signature,
            inputs=input_ranges(manifest, name, signature[0], profile),
            small=path.parent == graphs.FOLDER,
        )


_SLOWEST = ["unet", "unet_shallow", "vae_decoder", "vae_encoder", "text_encoder_2", "text_encoder"]


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """One engine, the shapes it is for, and its file: written as `making`, then renamed to `target`."""

    task: EngineTask
    profile: Profile
    target: Path
    making: Path

    @classmethod
    def of(cls, task: EngineTask, profile: Profile, folder: EngineFolder, builder: EngineBuilder) -> _Wanted:
        key = engine_key(task.digest, profile, builder.settings)
        target = folder.path / folder.file_name(task.graph, profile, key)
        return cls(task=task, profile=profile, target=target, making=target.with_name(f".{target.name}"))

    def copy_twin(self, folder: EngineFolder, builder: EngineBuilder, progress: Progress) -> bool:
        """Take over an engine that was built here of the same graph for the same inputs, if there is one.

        Text encoders, for one, take the same whatever size pictures have.
        """
        known = VerifiedFiles(built_here())
        wanted = self.task.digest, dict(self.task.inputs), dict(builder.settings)
        for one in folder.read():
            file = folder.path / one.file
            same = wanted == (one.digest, one.inputs, one.settings)
            if same and file.is_file() and known.has(file, one.sha256):
                shutil.copyfile(file, self.making)
                protect(self.making)
                filesystem.sync(self.making)
                self.making.replace(self.target)
                _record(self, folder, builder, one.layers)
                progress(f"{self.task.graph}: taken over from {one.file}, which is for the same inputs")
                return True
        return False

    def is_built(self, folder: EngineFolder) -> bool:
        """Whether an earlier run on this machine has finished it."""
        known = VerifiedFiles(built_here())
        there = (one for one in folder.read() if one.file == self.target.name)
        return any(self.target.is_file() and known.has(self.target, one.sha256) for one in there)


def _build_all(
    missing: Sequence[_Wanted],
    folder: EngineFolder,
    builder: EngineBuilder,
    progress: Progress,
    jobs: int,
) -> None:
    """Build engines, and record each as soon as it is finished."""
    kind = f"{builder.kind} {builder.version}"
    if jobs <= 1 or len(missing) <= 1:
        for one in missing:
            progress(f"building {one.task.graph} with {kind}")
            layers, seconds = _build(builder, one, progress)
            _record(one, folder, builder, layers)
            progress(f"{one.task.graph}: built in {seconds:.0f} s")
        return
    # a fresh interpreter for each worker: CUDA does not survive a fork
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(missing)), mp_context=context) as pool:
        progress(f"building {', '.join(one.task.graph for one in missing)} with {kind}, {jobs} at a time")
        building = {pool.submit(_build, builder, one): one for one in missing}
        try:
            for done in as_completed(building):
                layers, seconds = done.result()
                _record(building[done], folder, builder, layers)
                progress(f"{building[done].task.graph}: built in {seconds:.0f} s")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _build(
    builder: EngineBuilder, wanted: _Wanted, progress: Progress = lambda stage: None
) -> tuple[dict[str, int], float]:
    """Write one engine's file; returns its layers by precision, and the seconds it took."""
    started = time.perf_counter()
    try:
        layers = builder.build(wanted.task, wanted.making, progress)
        protect(wanted.making)
        filesystem.sync(wanted.making)
        wanted.making.replace(wanted.target)
    finally:
        wanted.making.unlink(missing_ok=True)
    return layers, time.perf_counter() - started


def _record(
    wanted: _Wanted,
    folder: EngineFolder,
    builder: EngineBuilder,
    layers: dict[str, int],
) -> None:
    """Name a finished engine in the folder's record, in place of those that it replaces."""
    task, target = wanted.task, wanted.target
    engine = Engine(
        graph=task.graph,
        digest=task.digest,
        profile=wanted.profile,
        inputs=dict(task.inputs),
        signature=task.signature,
        settings=dict(builder.settings),
        layers=layers,
        file=target.name,
        size=target.stat().st_size,
        sha256=sha256(target),
    )
    there = folder.read()
    kept = [one for one in there if one.file != target.name and not _outdated(one, engine)]
    folder.write([*kept, engine])
    built = VerifiedFiles(built_here())
    built.add(target, engine.sha256)
    built.save()
    for name in {one.file for one in there} - {one.file for one in kept} - {target.name}:
        (folder.path / name).unlink(missing_ok=True)


def _outdated(old: Engine, new: Engine) -> bool:
    """Whether an engine is of a graph that is no more, or of the same shapes with other settings."""
    return old.graph == new.graph and (old.digest != new.digest or old.profile == new.profile)
