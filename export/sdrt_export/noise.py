"""What libraries print while they work."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

LOGGERS = (
    "diffusers",
    "huggingface_hub",
    "onnx_ir",
    "onnxscript",
    "torch.export",
    "torch.onnx",
    "transformers",
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the warnings, logs and progress bars of libraries from the terminal; errors still pass."""
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        transformers_logging.disable_progress_bar()
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            if bars:
                transformers_logging.enable_progress_bar()
