"""A bundle folder, checked before anything in it is opened."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from sdrt import manifest as manifests
from sdrt.errors import BundleError
from sdrt.manifest import FileEntry, Manifest
from sdrt.onnx_external_data import external_files
from sdrt.verified import VerifiedFiles, state

DEMO = Path(__file__).parent / "demo"

Verify = Literal["fast", "full"]

_LFS_POINTER = b"version https://git-lfs"
_ONNX_FIRST_BYTE = 0x08  # field 1 of ModelProto, ir_version, as a varint


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A checked bundle. hashed: its files were found to have the SHA-256 that the manifest says."""

    path: Path
    manifest: Manifest
    hashed: bool = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        verify: Verify = "full",
        remembered: VerifiedFiles | None = None,
        progress: Callable[[str], None] = lambda stage: None,
    ) -> Bundle:
        """Read the manifest and check every file against it.

        verify: `fast` checks presence, size and header; `full` the SHA-256 as well. remembered: files that
        passed a full check before and have not changed since are not read again. progress: is told each
        stage.
        Raises BundleError naming the file, and what mends it.
        """
        path = Path(path)
        if not path.is_dir():
            raise BundleError(f"there is no bundle at {path}; make one with: sdrt export SOURCE -o {path}")
        manifest = manifests.read(path / manifests.FILE_NAME)
        bundle = cls(path=path, manifest=manifest, hashed=verify == "full")
        for name, entry in bundle.manifest.files.items():
            progress(f"checking {name}")
            bundle._check(name, entry, verify, remembered)
        if remembered is not None:
            remembered.save()
        graphs = [name for graph in bundle.manifest.graphs.values() for name in graph.paths]
        tokenizers = [text.tokenizer for text in bundle.manifest.text]
        for needed in (*tokenizers, *graphs):
            if needed not in bundle.manifest.files:
                raise BundleError(f"{path}: {needed} is not among the manifest's files; export it again")
        for graph in graphs:
            # under another name its external data would not have been looked at
            if not graph.endswith(".onnx"):
                raise BundleError(f"{path}: graph {graph} is not named .onnx; export it again")
        return bundle

    def _check(self, name: str, entry: FileEntry, verify: Verify, remembered: VerifiedFiles | None) -> None:
        file = self._inside(name)
        if remembered is not None and remembered.has(file, entry.sha256):
            return
        before = state(file)
        _check_size(file, entry.size)
        if verify == "full" and sha256(file) != entry.sha256:
            raise BundleError(
                f"{file} is damaged: its SHA-256 is not the manifest's; export the bundle again"
            )
        if name.endswith(".onnx"):
            self._check_graph(name, file)
        if verify == "full" and remembered is not None:
            remembered.add(file, entry.sha256, before)

    def _inside(self, name: str) -> Path:
        """The file of that name if it is a plain one within the bundle."""
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name:
            raise BundleError(f"{self.path}: the manifest names {name!r}, which is outside the bundle")
        file = self.path
        for part in parts:
            file = file / part
            try:
                mode = file.lstat()
            except OSError:
                raise BundleError(f"{file} is missing; export the bundle again") from None
            except ValueError:  # NUL or a lone surrogate
                raise BundleError(f"{self.path}: the manifest names {name!r}, which no file can be") from None
            if stat.S_ISLNK(mode.st_mode):
                raise BundleError(
                    f"{file} is a symbolic link; a bundle holds real files: copy them with cp -rL"
                )
        if not stat.S_ISREG(mode.st_mode):
            raise BundleError(f"{file} is not a plain file; export the bundle again")
        # installers may link what they unpack, so the bundle inside the package is exempt
        if mode.st_nlink > 1 and self.path != DEMO:
            raise BundleError(
                f"{file} is a hard link; another file could change it: copy the bundle with cp -r"
            )
        return file

    def _check_graph(self, name: str, file: Path) -> None:
        with file.open("rb") as stream:
            if stream.read(1) != bytes([_ONNX_FIRST_BYTE]):
                raise BundleError(f"{file} is not an ONNX graph; export the bundle again")
        for location in external_files(file):
            data = (PurePosixPath(name).parent / location).as_posix()
            if PurePosixPath(location).is_absolute() or ".." in PurePosixPath(location).parts:
                raise BundleError(f"{file} reads its weights from {location!r}, outside the bundle; refused")
            if data not in self.manifest.files:
                raise BundleError(
                    f"{file} reads its weights from {location!r}, which the manifest does not name"
                )


def _check_size(file: Path, expected: int) -> None:
    size = file.stat().st_size
    if size == expected:
        return
    with file.open("rb") as stream:
        if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise BundleError(
                f"{file} is a git-lfs pointer, not the file itself; fetch it with: git lfs pull"
            )
    kind = "empty" if size == 0 else "truncated" if size < expected else "too long"
    raise BundleError(f"{file} is {kind}: {size} of {expected} bytes; copy or export the bundle again")


def sha256(file: Path) -> str:
    """Lower-case hex SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
