"""sdrt_export: Stable Diffusion checkpoints to graphs and engines, in bundles that sdrt runs.

from sdrt_export import export
export("demo", Path("engines/demo"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sdrt  # noqa: F401, disables the telemetry of the libraries imported from here on

if TYPE_CHECKING:
    from .exporter import export

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    # Importing sdrt_export must stay cheap: the command line does it to show its help.
    if name == "export":
        from .exporter import export

        return export
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
