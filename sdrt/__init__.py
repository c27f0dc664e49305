"""sdrt: Stable Diffusion from exported graphs, without torch.

>>> import sdrt
>>> pipeline = sdrt.Pipeline.load()                      # the demo model; or a bundle folder
>>> pipeline.generate("a red star", seed=1)[0].save("star.png")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdrt import telemetry

if TYPE_CHECKING:
    from sdrt.errors import InputError, SdrtError
    from sdrt.metadata import RecordedSettings, read_settings
    from sdrt.pictures import Picture, Progress
    from sdrt.pipeline import Pipeline
    from sdrt.request import Request
    from sdrt.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "InputError",
    "Picture",
    "Pipeline",
    "Progress",
    "RecordedSettings",
    "Request",
    "SdrtError",
    "Settings",
    "__version__",
    "read_settings",
]

_LAZY = {
    "InputError": "sdrt.errors",
    "Picture": "sdrt.pictures",
    "Pipeline": "sdrt.pipeline",
    "Progress": "sdrt.pictures",
    "RecordedSettings": "sdrt.metadata",
    "Request": "sdrt.request",
    "SdrtError": "sdrt.errors",
    "Settings": "sdrt.settings",
    "read_settings": "sdrt.metadata",
}

telemetry.disable()  # before any library is imported


def __getattr__(name: str) -> Any:
    # numpy and the rest are loaded when first used: `sdrt --help` needs none of them
    if name not in _LAZY:
        raise AttributeError(f"module 'sdrt' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
