"""Bundles by name."""

from __future__ import annotations

from pathlib import Path

from sdrt.bundle import DEMO
from sdrt.errors import BundleError, UnknownNameError
from sdrt.manifest import FILE_NAME

ENGINES = Path("engines")


def find_bundle(name: str | None) -> Path:
    """The folder of a bundle: a path, the name of one under `engines/`, or the demo model for None.

    Raises UnknownNameError with the nearest names, BundleError for a path where nothing is.
    """
    if name is None:
        return DEMO
    if not name:
        raise UnknownNameError("model", name, exported_bundles())
    try:
        for folder in (Path(name), ENGINES / name):
            if (folder / FILE_NAME).is_file():
                return folder
    except OSError as error:  # a name too long, a folder that may not be read
        raise BundleError(f"there is no bundle at {name}: {error.strerror}") from None
    if name == "demo":
        return DEMO
    if Path(name).is_dir():
        raise BundleError(f"{name} is no bundle: it has no {FILE_NAME}; make one with: sdrt export {name}")
    if Path(name).name != name or Path(name).exists():
        raise BundleError(f"there is no bundle at {name}; make one with: sdrt export SOURCE -o DIR")
    raise UnknownNameError("model", name, exported_bundles())


def exported_bundles() -> list[str]:
    """Names that `find_bundle` knows here."""
    return ["demo", *sorted(file.parent.name for file in ENGINES.glob(f"*/{FILE_NAME}"))]
