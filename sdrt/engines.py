"""Engines: graphs compiled for one machine, in a folder of the bundle they were made from.

    engines/sd15/tensorrt-sm90-10.16.1.11/
        engines.json                           what each is made of: `Engine`
        unet.n1-r2-h512-w512-c1.3f2a9c41.plan

An engine is of one architecture, one version of its library and one graph, and takes the shapes of one
profile. It is code that runs as its user: only what was built here is loaded, unless the user says otherwise.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, cast

import msgspec

from sdrt.bundle import Bundle, sha256
from sdrt.errors import BundleError, EngineError
from sdrt.private_files import is_private, protect, read_plain, said
from sdrt.profiles import Profile, ShapeRange
from sdrt.tensors import TensorSpec
from sdrt.verified import VerifiedFiles, cache_folder

EngineKind = Literal["tensorrt", "aoti"]
RECORD = "engines.json"
_SCHEMA = 1
_SUFFIX = {"tensorrt": "plan", "aoti": "pt2"}
_MAX_RECORD = 64_000_000  # bytes
_DIGITS = 8  # of a key, in the name of a file


class Engine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One engine, and what it is made of.

    graph: its name in the bundle, or `step`, `latents`, `pixels`. digest: what the graph and its weights
    hold. inputs: the shapes it takes. signature: inputs and outputs as the graph has them. settings: of the
    builder. layers: how many compute in which precision, as the built engine tells; empty where it tells
    nothing.
    """

    graph: str
    digest: str
    profile: Profile
    inputs: dict[str, ShapeRange]
    signature: tuple[dict[str, TensorSpec], dict[str, TensorSpec]]
    settings: dict[str, str]
    layers: dict[str, int]
    file: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    size: int
    sha256: str

    def takes(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether its profile has these shapes of inputs."""
        return all(shapes[name] in wanted for name, wanted in self.inputs.items())

    @property
    def room(self) -> int:
        """How many shapes it takes: the fewer, the quicker."""
        return max(wanted.room for wanted in self.inputs.values())


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: int
    engines: tuple[Engine, ...]


def engine_key(digest: str, profile: Profile, settings: Mapping[str, str]) -> str:
    """What tells engines of one graph in one folder apart."""
    made_of = [digest, msgspec.to_builtins(profile), sorted(settings.items())]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:_DIGITS]


@dataclass(frozen=True, kw_only=True)
class EngineFolder:
    """The engines of a bundle for one architecture (`sm90`) and one version of the library that runs them."""

    bundle: Path
    kind: EngineKind
    architecture: str
    version: str

    @classmethod
    def at(cls, path: Path) -> Self:
        """The one of a folder that is there, by its name. Raises BundleError if it is called otherwise."""
        kind, _, rest = path.name.partition("-")
        architecture, _, version = rest.rpartition("-")
        if kind not in _SUFFIX:
            raise BundleError(f"{path} is no folder of engines: expected KIND-ARCHITECTURE-VERSION")
        return cls(
            bundle=path.parent, kind=cast("EngineKind", kind), architecture=architecture, version=version
        )

    @property
    def path(self) -> Path:
        """Where they are."""
        return self.bundle / f"{self.kind}-{self.architecture}-{self.version}"

    def file_name(self, graph: str, profile: Profile, key: str) -> str:
        """Of an engine."""
        return f"{graph}.{profile.name}.{key}.{_SUFFIX[self.kind]}"

    def read(self) -> tuple[Engine, ...]:
        """All that the record names; none if there is no record. Raises BundleError if it is damaged."""
        try:
            text = read_plain(self.path / RECORD, _MAX_RECORD)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise BundleError(f"cannot read {self.path / RECORD}: {said(error)}") from None
        try:
            record = msgspec.json.decode(text, type=_Record)
            if record.schema != _SCHEMA:
                raise ValueError(f"its schema is {record.schema}, this sdrt reads {_SCHEMA}")
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise BundleError(
                f"{self.path / RECORD} is no record of engines: {error}; remove {self.path} and {self.mend}"
            ) from None
        return record.engines

    def write(self, engines: Sequence[Engine]) -> None:
        """Replace the record, at once."""
        content = msgspec.json.format(msgspec.json.encode(_Record(schema=_SCHEMA, engines=tuple(engines))))
        making = self.path / f".{RECORD}.{os.getpid()}"
        making.write_bytes(content + b"\n")
        protect(making)
        making.replace(self.path / RECORD)

    @property
    def mend(self) -> str:
        """The command that builds them."""
        return f"build with: sdrt export {self.bundle} --engine {self.kind}"

    def find(self, graph: str, digest: str, *, trusted: bool = False) -> list[tuple[Engine, Path]]:
        """The engines of one graph, those that take the fewest shapes first.

        trusted: load what was built elsewhere too.
        Raises EngineError if there is none, saying what there is instead; if one was not built here, or
        others can write to it, to the record or to the folder. BundleError if one is damaged.
        """
        of_graph = [engine for engine in self.read() if engine.graph == graph]
        if not of_graph:
            raise EngineError(f"{self._absent(graph)}; {self.mend}")
        current = [engine for engine in of_graph if engine.digest == digest]
        if not current:
            raise EngineError(
                f"the {self.kind} engine of {graph} in {self.path} was made from another {graph}; {self.mend}"
            )
        if not trusted:
            self._check_private(self.path, self.path / RECORD, *(self.path / one.file for one in current))
        built = VerifiedFiles(built_here())
        for engine in current:
            self._check(engine, built, trusted)
        return [(engine, self.path / engine.file) for engine in sorted(current, key=lambda one: one.room)]

    def _absent(self, graph: str) -> str:
        if self.path.is_dir():
            return f"{self.path} has no engine of {graph}"
        others = sorted(path.name for path in self.bundle.glob(f"{self.kind}-*") if path.is_dir())
        there = f", only {', '.join(others)}" if others else ""
        return f"{self.bundle} has no {self.path.name}, engines for this machine{there}"

    def _check_private(self, *paths: Path) -> None:
        """Raise EngineError if others can write what decides whose code is loaded."""
        for path in paths:
            with contextlib.suppress(FileNotFoundError):  # said by name where it is looked for
                if not is_private(path):
                    raise EngineError(
                        f"{path} can be written by others, and an engine can do whatever you can: make it "
                        "yours with chown and chmod go-w, or say that you trust it with --trust-engines"
                    )

    def _check(self, engine: Engine, built: VerifiedFiles, trusted: bool) -> None:
        file = self.path / engine.file
        if file.is_symlink() or not file.is_file():
            raise BundleError(f"{file} is missing, or no plain file; {self.mend}")
        if built.has(file, engine.sha256):
            return
        if not trusted:
            raise EngineError(
                f"{file} was not built here, and an engine can do whatever you can: {self.mend}, "
                "or say that you trust it with --trust-engines"
            )
        if file.stat().st_size != engine.size or sha256(file) != engine.sha256:
            raise BundleError(f"{file} is damaged: it is not what {RECORD} says; {self.mend}")


def built_here() -> Path:
    """The file that remembers which engines this user built on this machine, unchanged since."""
    return cache_folder() / "engines.json"


def bundle_graph(bundle: Bundle, graph: Path, small: Path) -> tuple[str, str]:
    """Name and digest of a graph file: one of the bundle's, or one of the folder `small`.

    Raises BundleError if the bundle has no such graph.
    """
    if graph.parent == small:
        return graph.name.split(".")[0], sha256(graph)
    for name, entry in bundle.manifest.graphs.items():
        if bundle.path / entry.path == graph:
            return name, bundle.manifest.digest_of(entry)
    raise BundleError(f"{graph} is none of the graphs of {bundle.path}")
