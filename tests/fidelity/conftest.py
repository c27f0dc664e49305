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
