from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from sdrt.bundle import DEMO


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    import sdrt_export

    return Path(sdrt_export.__file__).parent / "demo" / "checkpoint"


@pytest.fixture(scope="session")
def demo_bundle(tmp_path_factory):
    """The committed checkpoint in a precision: the packaged bundle for fp32, exported once for fp16."""
    import sdrt_export

    @cache
    def bundle(precision: str) -> Path:
        if precision == "fp32":
            return DEMO
        target = tmp_path_factory.mktemp("bundles") / f"demo-{precision}"
        return sdrt_export.export("demo", target, precision=precision)

    return bundle


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """The checkpoint of one of `tiny_models.FAMILIES` and its bundle, each made once."""
    import tiny_models

    import sdrt_export

    folders = cache(lambda family: tiny_models.write(family, tmp_path_factory.mktemp(family) / "checkpoint"))

    @cache
    def bundle(family: str, precision: str) -> Path:
        folder = folders(family)
        return sdrt_export.export(str(folder), folder.parent / precision, precision=precision)

    def export(family: str, precision: str = "fp32") -> tuple[Path, Path]:
        return folders(family), bundle(family, precision)

    return export
