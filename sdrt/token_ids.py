"""Whether the ids of a tokenizer and a manifest are rows of the text encoder's table of token embeddings."""

from __future__ import annotations

from pathlib import Path

from sdrt.errors import BundleError
from sdrt.manifest import TextSettings
from sdrt.onnx_initializers import read_initializers
from sdrt.textual_inversion import TABLE


def check_ids(size: int, text: TextSettings, graph: Path) -> None:
    """Raise BundleError if an id has no row: some backends would read whatever lies behind the table.

    size: how many ids the tokenizer has. graph: the text encoder's file; one without a table of that name is
    not held to it.
    """
    tables = (one.shape for name, one in read_initializers(graph).items() if name.endswith(TABLE))
    rows = next((shape[0] for shape in tables if len(shape) == 2), None)
    if rows is None:
        return
    if size > rows:
        raise BundleError(
            f"{text.tokenizer} has ids up to {size - 1}, the table of {graph} has {rows} rows; "
            "export the bundle again"
        )
    for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if getattr(text, field) >= rows:
            raise BundleError(
                f"{field} is {getattr(text, field)}, the table of {graph} has {rows} rows; "
                "export the bundle again"
            )
