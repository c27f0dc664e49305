"""Engines of a bundle: which there are to build, and how each comes to its place.

An engine is written beside its final name and renamed; then the record names it. A build that was killed
keeps what it had finished, and the next one goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sdrt import graphs
from sdrt.bundle import Bundle, sha256
from sdrt.engines import Engine, EngineFolder, EngineKind, built_here, bundle_graph, engine_key
from sdrt.onnx_signature import Signature, read_signature
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
    bundle: Path, builder: EngineBuilder, shapes: Shapes, progress: Progress = lambda stage: None
) -> Path:
    """Build what is missing of one kind of engines for one profile; returns their folder.

    Raises BundleError if the bundle is damaged; InputError if the shapes do not fit it; ExportError if the
    library refuses, or another export to the bundle is running.
    """
    remembered = VerifiedFiles(cache_folder() / "verified.json")
    opened = Bundle.open(bundle.resolve(), remembered=remembered, progress=progress)
    profile = shapes.profile(opened.manifest)
    folder = EngineFolder(
        bundle=opened.path, kind=builder.kind, architecture=builder.architecture, version=builder.version
    )
    with locked(opened.path):
        folder.path.mkdir(exist_ok=True)
        for leftover in folder.path.glob(".*"):
            leftover.unlink()
        for task in _tasks(opened, profile):
            _build(task, folder, builder, profile, progress)
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


def _build(
    task: EngineTask, folder: EngineFolder, builder: EngineBuilder, profile: Profile, progress: Progress
) -> None:
    key = engine_key(task.digest, profile, builder.settings)
    target = folder.path / folder.file_name(task.graph, profile, key)
    built = VerifiedFiles(built_here())
    there = folder.read()
    if any(one.file == target.name and target.is_file() and built.has(target, one.sha256) for one in there):
        progress(f"{task.graph}: built already")
        return
    progress(f"building {task.graph} with {builder.kind} {builder.version}")
    making = folder.path / f".{target.name}"
    try:
        layers = builder.build(task, making, progress)
        filesystem.sync(making)
        making.replace(target)
    finally:
        making.unlink(missing_ok=True)
    engine = Engine(
        graph=task.graph,
        digest=task.digest,
        profile=profile,
        inputs=dict(task.inputs),
        signature=task.signature,
        settings=dict(builder.settings),
        layers=layers,
        file=target.name,
        size=target.stat().st_size,
        sha256=sha256(target),
    )
    kept = [one for one in there if one.file != target.name and not _outdated(one, engine)]
    folder.write([*kept, engine])
    built.add(target, engine.sha256)
    built.save()
    for name in {one.file for one in there} - {one.file for one in kept} - {target.name}:
        (folder.path / name).unlink(missing_ok=True)


def _outdated(old: Engine, new: Engine) -> bool:
    """Whether an engine is of a graph that is no more, or of the same shapes with other settings."""
    return old.graph == new.graph and (old.digest != new.digest or old.profile == new.profile)
